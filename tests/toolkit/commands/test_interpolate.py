"""Editing by command line: runs that begin with a picture, and the way from one to another."""

import math
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.load import save_model
from glide.diffusion.samplers.registry import SPACINGS
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.cli import parse
from glide.utils.images import from_uint8, read_recipe, to_uint8
from support.interpolate_script import call, photo
from support.latent import SIZE, latent_model
from support.models import CAPTIONS
from support.sample_script import QUICK, Capture, pngs, refused
from support.sample_script import call as sample
from toolkit import Pipeline
from toolkit.commands import interpolate_flags
from toolkit.commands.interpolate import Walk
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]


# --- a run that begins with a picture -------------------------------------------------------------------------------


def test_it_begins_with_the_noised_picture(text_model: Model) -> None:
    """SDEdit (2108.01073): x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) z with the noise of the seed."""
    pipe = Pipeline(text_model, call_size=2)
    start = torch.rand(3, 8, 8) * 2 - 1
    settings = SamplingConfig("ddim", "10", 0.0, "cfg", 3.0, strength=0.45)
    assert pipe.process(settings).timesteps.tolist() == [0, 11, 22, 33, 44]
    assert pipe.steps(settings) == 5
    loop = pipe.loop([ImageRequest(7, RED)], settings)
    z = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(7))
    alpha_bar = text_model.process.alpha_bar[44]
    x = alpha_bar**0.5 * start + (1 - alpha_bar) ** 0.5 * z
    expected = loop.denoise(x.float().expand(2, -1, -1, -1), 44).x0[0]
    step = next(iter(pipe.draw([ImageRequest(7, RED, given=KnownPixels(start=start))], settings)))
    assert step.t == 44
    torch.testing.assert_close(step.x0[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("spacing", ["uniform", "trailing", "quadratic", "log-snr", "karras"])
def test_one_step_begins_at_the_strength(text_model: Model, spacing: str) -> None:
    pipe = Pipeline(text_model)
    for strength, timestep in ((0.005, 0), (0.3, 29), (0.995, 99), (1.0, 99)):
        settings = SamplingConfig("dpmpp-2m", "1", strength=strength, spacing=spacing)
        assert pipe.process(settings).timesteps.tolist() == [timestep]


@pytest.mark.parametrize("spacing", list(SPACINGS))
@pytest.mark.parametrize("strength", [0.005, 0.3, 0.6])
def test_a_start_is_as_noisy_as_its_strength_says(text_model: Model, spacing: str, strength: float) -> None:
    pipe = Pipeline(text_model, "tiny")  # 100 timesteps
    settings = SamplingConfig("dpmpp-2m", "10", strength=strength, spacing=spacing)
    timesteps = pipe.process(settings).timesteps.tolist()
    last = math.ceil(100 * strength) - 1
    assert last - timesteps[-1] in (range(11) if spacing == "uniform" else (0,))
    below = sum(t <= last for t in pipe.process(replace(settings, strength=1.0)).timesteps)
    assert len(timesteps) == max(1, below)


@pytest.mark.slow
def test_little_strength_keeps_the_picture_and_all_of_it_forgets_it(text_model: Model) -> None:
    pipe = Pipeline(text_model, call_size=4)
    starts = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def drawn(strength: float) -> torch.Tensor:
        settings = SamplingConfig("ddim", "50", 0.0, "none", strength=strength)
        *_, step = pipe.draw([ImageRequest(1, RED, given=KnownPixels(start=one)) for one in starts], settings)
        return step.x

    assert (drawn(0.02) - starts).abs().mean() < 0.1  # next to no noise was added
    apart = [float((drawn(strength)[0] - drawn(strength)[1]).abs().mean()) for strength in (0.02, 1.0)]
    assert apart[1] < 0.1 * apart[0]  # the same noise, and nothing else left


@pytest.mark.slow
def test_whatever_the_batch_size_with_a_start(text_folder: Path, tmp_path: Path) -> None:
    flags = ["--model", text_folder, "--prompt", RED, "--init-image", photo(tmp_path / "x.png"), *QUICK]
    flags += ["--num-samples", 5, "--call-size", 2]
    for size in (1, 4):
        assert sample(*flags, "--batch-size", size, "--out", tmp_path / str(size)) == 0
    for name in pngs(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes()
    assert len(pngs(tmp_path / "1")) == 5


@pytest.mark.slow
def test_like_with_a_start(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = photo(tmp_path / "x.png", (16, 16))
    flags = ["--model", text_folder, "--prompt", RED, "--steps", 10, "--out", tmp_path / "o"]
    assert sample(*flags, "--init-image", picture, "--strength", 0.5) == 0
    first = tmp_path / "o/00000.png"
    recipe = read_recipe(first)
    assert recipe["init_image"] == str(picture) and recipe["strength"] == 0.5 and recipe["steps"] == 5
    assert re.fullmatch("[0-9a-f]{64}", recipe["init_sha256"])
    assert sample("--trust-recipe", "--like", first, "--out", tmp_path / "o") == 0
    assert (tmp_path / "o/00001.png").read_bytes() == first.read_bytes()
    assert (
        sample("--trust-recipe", "--like", first, "--out", tmp_path / "o", "--strength", 0.9) == 0
    )  # one thing changed
    assert read_recipe(tmp_path / "o/00002.png")["strength"] == 0.9
    other = photo(tmp_path / "y.png", seed=1)
    assert sample("--trust-recipe", "--like", first, "--out", tmp_path / "o", "--init-image", other) == 0
    capsys.readouterr()
    photo(picture, (16, 16), seed=2)
    refused(
        sample("--trust-recipe", "--like", first, "--out", tmp_path / "o"), capsys, "is not the one any more"
    )
    picture.unlink()
    refused(sample("--trust-recipe", "--like", first, "--out", tmp_path / "o"), capsys, "cannot read")
    assert len(pngs(tmp_path / "o")) == 4


@pytest.mark.filterwarnings("default:.*its middle square")
def test_usual_strength_and_other_shapes(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = [
        "--model",
        text_folder,
        "--prompt",
        RED,
        "--steps",
        10,
        "--sampler",
        "ddim",
        "--out",
        tmp_path / "o",
    ]
    assert sample(*flags, "--init-image", photo(tmp_path / "wide.png", (20, 12))) == 0
    assert "is 20x12: its middle square is the start" in capsys.readouterr().err
    recipe = read_recipe(tmp_path / "o/00000.png")
    assert (recipe["strength"], recipe["steps"]) == (0.6, 6)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--strength 0.5", "--strength 0.5 without a picture"),
        ("--init-image x.png --strength 0", "strength 0.0, expected a finite number above 0 and at most 1"),
        ("--init-image x.png --strength 1.1", "strength 1.1"),
        ("--init-image x.png --strength nan", "strength nan"),
        ("--init-image nowhere.png", "cannot read nowhere.png"),
        ("--init-image text.png", "text.png is not a readable picture"),
    ],
)
def test_bad_starts(text_folder: Path, work_folder: Path, capsys: Capture, flags: str, said: str) -> None:
    photo(Path("x.png"))
    Path("text.png").write_text("no picture")
    refused(sample("--model", text_folder, "--prompt", RED, "--out", "o", *flags.split()), capsys, said)
    assert not Path("o").exists()


# --- from one to another --------------------------------------------------------------------------------------------


def frames(path: Path, count: int, side: int = 8) -> torch.Tensor:
    """The frames of a strip, uint8 [N,H,W,3]."""
    with Image.open(path) as strip:
        assert strip.size == (count * (side + 2) + 2, side + 4)
        pixels = np.asarray(strip)
    return torch.from_numpy(
        np.stack([pixels[2 : 2 + side, 2 + i * (side + 2) :][:, :side] for i in range(count)])
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mix", "guidance"), [("conditions", "cfg"), ("predictions", "cfg"), ("predictions", "cfg:1..4")]
)
def test_between_captions(
    text_folder: Path, tmp_path: Path, capsys: Capture, mix: str, guidance: str
) -> None:
    flags = ["--prompt", RED, "--prompt", SQUARE, "--model", text_folder, "--steps", 3, "--seed", 4]
    flags += ["--frame-spacing", "uniform", "--mix", mix, "--guidance", guidance]
    assert call(*flags, "--frames", 4, "--out", tmp_path / "s.png") == 0
    found = frames(tmp_path / "s.png", 4)
    for place, caption in ((0, RED), (-1, SQUARE)):  # the ends are what either caption draws
        drawn = ["--model", text_folder, "--prompt", caption, "--seed", 4, "--steps", 3]
        drawn += ["--guidance", guidance]
        assert sample(*drawn, "--out", tmp_path / str(place)) == 0
        with Image.open(tmp_path / str(place) / "00000.png") as picture:
            assert np.abs(np.asarray(picture).astype(int) - found[place].numpy()).max() <= 1
    assert len({frame.numpy().tobytes() for frame in found}) == 4
    with Image.open(tmp_path / "s.gif") as animation:  # there and back
        assert animation.n_frames == 6  # type: ignore[attr-defined]
    recipe = read_recipe(tmp_path / "s.png")
    assert recipe["prompts"] == [RED, SQUARE] and recipe["mix"] == mix and recipe["seed"] == 4
    assert "strip of 4 frames" in capsys.readouterr().out


@pytest.mark.parametrize("closed", [False, True])
def test_a_walk_through_three_captions(
    text_folder: Path, tmp_path: Path, capsys: Capture, closed: bool
) -> None:
    flags = [word for caption in CAPTIONS for word in ("--prompt", caption)] + ["--closed"] * closed
    flags += ["--model", text_folder, "--steps", 2, "--call-size", 2, "--frames", 5]
    assert call(*flags, "--out", tmp_path / "s.png") == 0
    recipe = read_recipe(tmp_path / "s.png")
    positions = recipe["positions"]
    assert recipe["frame_spacing"] == "arc-length" and recipe["prompts"] == CAPTIONS
    assert positions == sorted(positions) and {0, 1, 2} <= set(positions)
    assert (positions[-1] == 2) is not closed and recipe.get("closed", False) is closed
    times = re.search(r"against the mean: ([\d.]+) times", capsys.readouterr().out)
    assert times and 1 <= float(times[1]) < 2
    strip = frames(tmp_path / "s.png", 5)
    for name in ("s.gif", "s-animated.png"):
        with Image.open(tmp_path / name) as animation:
            assert animation.n_frames == (5 if closed else 8)  # type: ignore[attr-defined]
            animation.seek(1)
            shown = np.asarray(animation.convert("RGB")).astype(int)
        if name.endswith(".png"):  # in all colours
            assert np.array_equal(shown, strip[1].numpy())
    assert read_recipe(tmp_path / "s-animated.png") == recipe
    # a frame is what it is by its own position, whatever is drawn beside it
    walk = args_of(flags, tmp_path)
    pipe = Pipeline.from_pretrained(text_folder, call_size=2)
    drawn = to_uint8(Walk(walk, pipe, walk.settings(True), []).draw([positions[3], positions[1]]))
    assert torch.equal(drawn, strip[[3, 1]])


def args_of(flags: list[object], folder: Path) -> interpolate_flags.Interpolate:
    return parse(interpolate_flags.Interpolate, "x", [*map(str, flags), "--out", str(folder / "t.png")])


@pytest.mark.parametrize("method", ["ddim", "ddpm"])
def test_a_walk_through_three_pictures(
    class_folder: Path, tmp_path: Path, capsys: Capture, method: str
) -> None:
    pictures = [photo(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    flags = [word for picture in pictures for word in ("--image", picture)]
    flags += ["--model", class_folder, "--frames", 6, "--strength", 0.2, "--iterations", 20]
    flags += ["--method", method, "--steps", 20, "--closed", "--frame-spacing", "uniform"]
    assert call(*flags, "--out", tmp_path / "s.png") == 0
    found = from_uint8(frames(tmp_path / "s.png", 6))
    ends = []
    for picture in pictures:
        with Image.open(picture) as opened:
            ends.append(np.asarray(opened))
    if method == "ddim":  # they come back
        assert float((found[[0, 2, 4]] - from_uint8(np.stack(ends))).abs().mean()) < 0.1
    assert len({frame.numpy().tobytes() for frame in found}) == 6
    said = capsys.readouterr().out
    assert ("the pictures come back at" in said) is (method == "ddim")
    assert read_recipe(tmp_path / "s.png")["images"] == [str(picture) for picture in pictures]


def test_a_walk_of_a_latent_model(tmp_path: Path) -> None:
    save_model(tmp_path / "model", latent_model())
    flags = ["--model", tmp_path / "model", "--prompt", RED, "--prompt", SQUARE, "--steps", 2, "--frames", 3]
    assert call(*flags, "--out", tmp_path / "s.png") == 0
    assert frames(tmp_path / "s.png", 3, SIZE).float().std() > 1


@pytest.mark.slow
def test_between_pictures_by_their_noise(class_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    a, b = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", seed=1)
    flags = ["--image", a, "--image", b, "--model", class_folder, "--frames", 3, "--steps", 30]
    assert call(*flags, "--strength", 0.3, "--iterations", 20, "--out", tmp_path / "s.png") == 0
    found = from_uint8(frames(tmp_path / "s.png", 3))
    with Image.open(a) as first, Image.open(b) as last:
        ends = from_uint8(np.stack([np.asarray(first), np.asarray(last)]))
    assert float((found[[0, -1]] - ends).abs().mean()) < 0.1  # they come back
    assert float((found[1] - ends).abs().mean()) > 0.1
    said = capsys.readouterr().out
    assert all(float(x) > 20 for x in re.search(r"at ([\d.]+) and ([\d.]+) dB", said).groups())  # type: ignore[union-attr]
    recipe = read_recipe(tmp_path / "s.png")
    assert recipe["images"] == [str(a), str(b)] and recipe["method"] == "ddim"
    assert recipe["strength"] == 0.3 and recipe["iterations"] == 20


def test_between_pictures_by_mixing_them(class_folder: Path, class_model: Model, tmp_path: Path) -> None:
    a, b = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", seed=1)
    flags = ["--image", a, "--image", b, "--model", class_folder, "--frames", 3, "--steps", 6, "--seed", 2]
    assert call(*flags, "--method", "ddpm", "--sampler", "ddpm", "--out", tmp_path / "s.png") == 0
    found = frames(tmp_path / "s.png", 3)
    with Image.open(a) as first, Image.open(b) as last:
        one, other = from_uint8(np.stack([np.asarray(first), np.asarray(last)]))
    pipe = Pipeline(class_model)
    settings = SamplingConfig("ddpm", "6", 0.0, "none", strength=0.5)
    *_, step = pipe.draw([ImageRequest(2, given=KnownPixels(start=(one + other) / 2))], settings)
    pixels = ((step.x[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255)
    assert (pixels - found[1].float()).abs().max() <= 1
    assert len({frame.numpy().tobytes() for frame in found}) == 3


@pytest.mark.slow
def test_two_captions_with_two_pictures(text_folder: Path, tmp_path: Path) -> None:
    a, b = photo(tmp_path / "a.png"), photo(tmp_path / "b.png", seed=1)
    flags = ["--image", a, "--image", b, "--prompt", RED, "--prompt", SQUARE, "--model", text_folder]
    for method in ("ddim", "ddpm"):
        out = tmp_path / f"{method}.png"
        assert call(*flags, "--method", method, "--steps", 3, "--frames", 2, "--out", out) == 0
        assert read_recipe(out)["guidance"] == ("none" if method == "ddim" else "cfg")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "0 captions and no pictures, expected two or more of either"),
        ("--prompt x", "1 captions and no pictures"),
        ("--image a.png", "1 pictures, expected two"),
        ("--image a.png --image b.png --prompt x --prompt y --prompt z", "3 captions for 2 pictures"),
        ("--prompt x --prompt y --frames 1", "--frames 1, expected a whole number of at least 2"),
        ("--prompt x --prompt y --iterations 0", "--iterations 0"),
        ("--prompt x --prompt y --strength 0.5", "for captions, expected pictures"),
        ("--prompt x --prompt y --mix both", "--mix 'both', expected conditions or predictions"),
        ("--prompt x --prompt y --method euler", "--method 'euler', expected ddim or ddpm"),
        ("--prompt x --prompt y --steps 1000", "1000 steps, expected 1 to 100"),
        ("--prompt x --prompt y --out there.png", "there.png exists already"),
        ("--prompt x --prompt y --out moving.png", "moving.gif exists already"),
        ("--prompt x --prompt y --out going.png", "going-animated.png exists already"),
        (
            "--prompt x --prompt y --prompt z --frames 2",
            "--frames 2 for a walk through 3, expected at least one",
        ),
        ("--prompt x --prompt y --frame-spacing even", "'even', expected arc-length or uniform: choose one"),
        ("--prompt x --prompt y --out s.gif", "ends in .png"),
        ("--image a.png --image nowhere.png", "cannot read nowhere.png"),
        ("--image a.png --image b.png --strength 2", "strength 2"),
        ("--image a.png --image b.png --out a.png --overwrite", "never written over"),
    ],
)
def test_bad_interpolations(
    text_folder: Path, work_folder: Path, capsys: Capture, flags: str, said: str
) -> None:
    photo(Path("a.png")), photo(Path("b.png"), seed=1)
    for name in ("there.png", "moving.gif", "going-animated.png"):
        Path(name).write_text("mine")
    before = {path.name: path.read_bytes() for path in work_folder.iterdir()}
    out = [] if "--out" in flags else ["--out", "o.png"]
    refused(call("--model", text_folder, *flags.split(), *out), capsys, said)
    assert {path.name: path.read_bytes() for path in work_folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.filterwarnings("default:the caption is longer")
def test_the_examples_in_help_run(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(Path("a.png")), photo(Path("b.png"), seed=1)
    examples = re.findall(
        r"^ +python scripts/interpolate\.py (.*)$", interpolate_flags.__doc__ or "", re.MULTILINE
    )
    assert len(examples) == 5
    for example in examples:
        assert call(*shlex.split(example), "--steps", 3, "--model", text_folder) == 0, example
