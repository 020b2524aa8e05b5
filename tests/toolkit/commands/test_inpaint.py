"""scripts/inpaint.py: outside the mask nothing changes, whatever the picture; recipes repeat what was painted."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.load import save_model
from glide.checkpoints.openai.convert import from_state_dict
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.utils.cli import run
from glide.utils.images import load_image, read_recipe
from guidance import LogLikelihood
from support.inpaint_files import RED, RNG, call, inside, mask_file, photo
from support.models import CAPTIONS
from support.openai_nets import golden
from support.sample_script import Capture, refused
from toolkit import Pipeline
from toolkit.pipelines.inpaint import inpaint, plan
from toolkit.pipelines.settings import SamplingConfig

# --- nothing outside the mask changes -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "result"),
    [("RGB", "RGB"), ("RGBA", "RGBA"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("1", "L")],
)
def test_every_mode_keeps_its_pixels(
    filler_folder: Path, tmp_path: Path, capsys: Capture, mode: str, result: str
) -> None:
    image = photo(tmp_path / "photo.png", mode)
    before = image.read_bytes()
    flags = ["--image", image, "--mask", mask_file(tmp_path / "m.png"), "--out", tmp_path / "o.png"]
    assert call(*flags, "--model", filler_folder, "--prompt", RED, "--steps", 2) == 0
    assert image.read_bytes() == before  # the original is only read
    with Image.open(image) as old, Image.open(tmp_path / "o.png") as new:
        assert (new.mode, new.size) == (result, old.size)
        was, now = np.asarray(old.convert(result)), np.asarray(new)
    assert np.array_equal(was[~inside()], now[~inside()]) and not np.array_equal(was[inside()], now[inside()])
    if result.endswith("A"):
        assert (now[inside()][:, -1] == 255).all()  # what is painted is opaque
    assert f"1 picture: {tmp_path / 'o.png'}" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("method", ["model", "repaint", "replace"])
@pytest.mark.parametrize("size", [(8, 8), (33, 9), (5, 70), (64, 40)])
def test_every_size_and_method(
    filler_folder: Path, tmp_path: Path, method: str, size: tuple[int, int]
) -> None:
    image = photo(tmp_path / "photo.png", size=size)
    box = (size[0] // 4, size[1] // 3, size[0] // 2 + 1, size[1] - 1)
    flags = ["--image", image, "--box", ",".join(map(str, box)), "--out", tmp_path / "o.png", "--steps", 3]
    assert call(*flags, "--model", filler_folder, "--method", method, "--seed", 3) == 0
    with Image.open(image) as old, Image.open(tmp_path / "o.png") as new:
        was, now = np.asarray(old), np.asarray(new)
    unknown = inside(size, box)
    assert np.array_equal(was[~unknown], now[~unknown]) and not np.array_equal(was, now)
    assert read_recipe(tmp_path / "o.png")["method"] == method


@pytest.mark.filterwarnings("default:.*more than 8 bits")
def test_a_deeper_picture_is_said_to_be_reduced(filler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    image = photo(tmp_path / "photo.png", "16")
    flags = ["--image", image, "--box", "0,0,9,9", "--model", filler_folder, "--steps", 1]
    assert call(*flags, "--out", tmp_path / "o.png") == 0
    assert "more than 8 bits a colour: it is reduced to 8" in capsys.readouterr().err
    with Image.open(tmp_path / "o.png") as new:
        assert new.mode == "L"


@pytest.mark.filterwarnings("default:.*(is CMYK|has 2 frames)")
@pytest.mark.parametrize("kind", ["turned.jpg", "inks.tif", "moving.gif"])
def test_other_files_are_painted_as_a_viewer_shows_them(
    filler_folder: Path, tmp_path: Path, capsys: Capture, kind: str
) -> None:
    path = tmp_path / kind
    image = Image.fromarray(RNG.integers(0, 256, (13, 20, 3), dtype=np.uint8))
    if kind == "turned.jpg":
        exif = image.getexif()
        exif[0x112] = 6  # a quarter turn
        image.save(path, exif=exif)
    elif kind == "inks.tif":
        image.convert("CMYK").save(path)
    else:
        image.save(path, save_all=True, append_images=[image.rotate(180)])
    flags = ["--image", path, "--box", "2,3,9,12", "--model", filler_folder, "--steps", 1]
    assert call(*flags, "--out", tmp_path / "o.png") == 0
    said = capsys.readouterr().err
    assert ("is CMYK" in said) == (kind == "inks.tif") and ("2 frames" in said) == (kind == "moving.gif")
    with Image.open(tmp_path / "o.png") as new:
        now = np.asarray(new.convert("RGB"))
    shown = load_image(path).numpy()
    assert shown.shape == ((20, 13, 3) if kind == "turned.jpg" else (13, 20, 3))
    unknown = inside(shown.shape[1::-1], (2, 3, 9, 12))
    assert np.array_equal(now[~unknown], shown[~unknown]) and not np.array_equal(now, shown)


@pytest.mark.slow
def test_the_usual_method_is_what_the_model_can(
    filler_folder: Path, text_folder: Path, tmp_path: Path
) -> None:
    image = photo(tmp_path / "photo.png")
    flags = ["--image", image, "--box", "0,0,9,9", "--steps", 3, "--overwrite", "--out", tmp_path / "o.png"]
    for folder, method in ((filler_folder, "model"), (text_folder, "repaint")):
        assert call(*flags, "--model", folder) == 0
        recipe = read_recipe(tmp_path / "o.png")
        assert recipe["method"] == method and recipe["guidance"] == "none"  # nothing to be led to
    assert (recipe["jump"], recipe["resamplings"], recipe["steps"]) == (2, 10, 21)
    assert call(*flags, "--model", text_folder, "--jump", 1, "--resamplings", 2) == 0
    assert read_recipe(tmp_path / "o.png")["steps"] == 5


@pytest.mark.slow
def test_known_pixels_stay_under_a_gradient(filler: Model) -> None:
    """DDIM spends a gradient through epsilon and back, which moves a known pixel by rounding: it is pasted."""
    pipe = Pipeline(filler, call_size=2)
    image, mask = torch.rand(3, 8, 8) * 2 - 1, torch.zeros(1, 8, 8)
    mask[:, :, :5] = 1
    pictures = [ImageRequest(i, RED, given=KnownPixels(image=image, mask=mask)) for i in range(3)]
    pull = LogLikelihood(lambda x, t: 30 * x.flatten(1).sum(1), 1.0)
    for sampler in ("ddim", "ddpm"):
        for resamplings in (1, 3):
            settings = SamplingConfig(sampler, "4", 0.0, "none", jump=2, resamplings=resamplings)
            *_, plain = pipe.draw(pictures, settings)
            *_, step = pipe.draw(pictures, settings, [pull])
            known = image[:, :, :5].expand(3, -1, -1, -1)
            assert torch.equal(step.x[:, :, :, :5], known) and torch.equal(step.x0[:, :, :, :5], known)
            assert not torch.equal(step.x, plain.x)


def test_replacing_tells_the_model_nothing(filler: Model) -> None:
    pipe = Pipeline(filler, call_size=1)
    image, mask = torch.rand(3, 8, 8), torch.ones(1, 8, 8)
    told, hidden = (
        pipe.conditioner.of([ImageRequest(0, RED, given=KnownPixels(image=image, mask=mask, visible=tell))])
        for tell in (True, False)
    )
    nothing = pipe.conditioner.of([ImageRequest(0, RED)])
    assert hidden.same(nothing) and not told.same(nothing)


def test_dynamic_thresholds_do_not_scale_what_is_known(filler: Model) -> None:
    from guidance.options import Options

    pipe = Pipeline(filler, call_size=1)
    image, mask = torch.rand(3, 8, 8) * 2 - 1, torch.zeros(1, 8, 8)
    mask[:, 4:] = 1
    settings = SamplingConfig("ddim", "4", 0.0, "cfg", 9.0, Options(threshold=0.5))
    for step in pipe.draw([ImageRequest(0, RED, given=KnownPixels(image=image, mask=mask))], settings):
        assert torch.equal(step.x0[0, :, 4:], image[:, 4:])


# --- choices, recipes, stages ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_choices_side_by_side_and_each_alone(filler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    image = photo(tmp_path / "photo.png")
    flags = ["--image", image, "--box", "5,2,12,9", "--model", filler_folder, "--steps", 2, "--prompt", RED]
    assert call(*flags, "--num-samples", 3, "--seed", 7, "--out", tmp_path / "all.png") == 0
    assert "side by side" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.glob("all*")) == ["all-1.png", "all-2.png", "all-3.png", "all.png"]
    with Image.open(tmp_path / "all.png") as sheet, Image.open(tmp_path / "all-2.png") as second:
        assert sheet.size == (2 * 22 + 2, 2 * 15 + 2)
        assert sheet.crop((24, 2, 44, 15)).tobytes() == second.tobytes()
    assert read_recipe(tmp_path / "all-2.png")["seed"] == 8
    first, last = ((tmp_path / f"all-{i}.png").read_bytes() for i in (1, 3))
    assert first != last
    assert call(*flags, "--seed", 7, "--out", tmp_path / "one.png") == 0  # alone as among others
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "all-1.png") as among:
        assert one.tobytes() == among.tobytes()


def test_a_recipe_says_all(filler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    import sample

    image, mask = photo(tmp_path / "photo.png"), mask_file(tmp_path / "m.png")
    flags = ["--image", image, "--mask", mask, "--model", filler_folder, "--steps", 2, "--prompt", RED]
    assert call(*flags, "--out", tmp_path / "o.png") == 0
    recipe = read_recipe(tmp_path / "o.png")
    expected = {"made_by": "inpaint.py", "image": str(image), "mask": str(mask), "invert_mask": False}
    expected |= {
        "method": "model",
        "context": 3.0,
        "prompt": RED,
        "seed": 0,
        "steps": 2,
        "guidance": "cfg",
        "scale": 3.0,
    }
    expected |= {"region": [2, 0, 13], "feather": 2, "painted_at": 8, "model": str(filler_folder)}
    assert expected.items() <= recipe.items()
    assert all(re.fullmatch("[0-9a-f]{64}", recipe[name]) for name in ("image_sha256", "mask_sha256"))
    capsys.readouterr()
    with pytest.raises(SystemExit):  # the other script says that it cannot repeat this one
        run(
            lambda: sample.main(
                ["--trust-recipe", "--like", str(tmp_path / "o.png"), "--out", str(tmp_path / "x")]
            )
        )
    assert "was made by inpaint.py" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("default:.* is not the image that")
def test_like_paints_again(filler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    """All results or one of them, bit for bit; another flag changes one thing."""
    image, mask = photo(tmp_path / "photo.png"), mask_file(tmp_path / "m.png")
    flags = ["--image", image, "--mask", mask, "--model", filler_folder, "--steps", 3, "--prompt", RED]
    assert call(*flags, "--num-samples", 3, "--call-size", 2, "--scale", 2, "--out", tmp_path / "o.png") == 0
    first = {name: (tmp_path / name).read_bytes() for name in ("o.png", "o-1.png", "o-2.png", "o-3.png")}
    for name in ("o-1.png", "o-2.png", "o-3.png"):
        assert (
            call("--trust-recipe", "--like", tmp_path / name, "--out", tmp_path / "again.png", "--overwrite")
            == 0
        )
        assert (tmp_path / "again.png").read_bytes() == first[name]
    assert (
        call("--trust-recipe", "--like", tmp_path / "o.png", "--out", tmp_path / "o.png", "--overwrite") == 0
    )
    assert {name: (tmp_path / name).read_bytes() for name in first} == first

    def told(*flags: object) -> dict[str, Any]:
        assert (
            call(
                "--trust-recipe",
                "--like",
                tmp_path / "o-2.png",
                *flags,
                "--out",
                tmp_path / "x.png",
                "--overwrite",
            )
            == 0
        )
        recipe = read_recipe(tmp_path / "x.png")
        assert {**recipe, "seed": 1}.items() >= {"image": str(image), "model": str(filler_folder)}.items()
        return recipe

    assert told("--seed", 7)["seed"] == 7
    assert told("--steps", 2)["steps"] == 2
    assert told("--guidance", "none")["guidance"] == "none"
    assert told("--box", "0,0,4,4")["box"] == "0,0,4,4"
    assert told("--method", "repaint", "--resamplings", 2, "--jump", 1)["resamplings"] == 2
    again = read_recipe(tmp_path / "x.png")
    assert call("--trust-recipe", "--like", tmp_path / "x.png", "--out", tmp_path / "y.png") == 0
    assert read_recipe(tmp_path / "y.png") == again
    assert (tmp_path / "y.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    capsys.readouterr()
    photo(tmp_path / "photo.png", mode="L")
    assert call("--trust-recipe", "--like", tmp_path / "o-2.png", "--out", tmp_path / "z.png") == 0
    assert "photo.png is not the image that" in capsys.readouterr().err
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    refused(
        call("--trust-recipe", "--like", tmp_path / "plain.png", "--out", tmp_path / "n.png"),
        capsys,
        "plain.png",
    )
    refused(call("--out", tmp_path / "n.png"), capsys, "give --image")


class Twice:
    """A second stage that draws nothing but says what it was given."""

    size = 16

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def recipe(self) -> dict[str, Any]:
        return {"model": "twice"}

    def enlarge(self, small: Tensor, **given: Any) -> Tensor:
        self.seen = {"small": small, **given}
        return small.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_two_stages(filler: Model) -> None:
    pipe, twice = Pipeline(filler), Twice()
    rgb = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    unknown = inside((16, 16))
    how = plan(pipe, unknown, SamplingConfig("ddim", "2", 0.0, "none"), enlarge=twice)
    assert (how.small, how.final, how.region.side, how.feather) == (8, 16, 16, 0)
    (new,) = inpaint(pipe, rgb, unknown, [ImageRequest(4, RED)], how, twice)
    assert twice.seen["small"].shape == (1, 3, 8, 8) and twice.seen["captions"] == [RED]
    assert twice.seen["seeds"] == [4] and twice.seen["labels"] == [None]
    assert torch.equal(twice.seen["mask"][0] == 0, torch.from_numpy(unknown))  # at the pixels themselves
    assert np.array_equal(new[~unknown], rgb[~unknown])
    painted = twice.enlarge(twice.seen["small"])[0]
    pixels = ((painted + 1) * 127.5).round().permute(1, 2, 0).numpy()
    assert np.array_equal(new[unknown], pixels[unknown])


def glide(name: str, size: int) -> Model:
    """One of the golden networks, as the published checkpoint of that kind would be converted."""
    options, state, _ = golden(name)
    model = from_state_dict(
        {key: value.float() for key, value in state.items()}, {**options, "image_size": size}
    )
    model.tokenizer = Tokenizer.train(CAPTIONS, vocab_size=300, context=16)
    return model.eval()


@pytest.mark.slow
def test_glides_own_models(tmp_path: Path) -> None:
    """Its inpainting model (here 16x16), alone and with its upsampler (to 64x64)."""
    save_model(tmp_path / "base", glide("glide_inpaint", 16))
    save_model(tmp_path / "large", glide("glide_upsampler", 64))
    image = photo(tmp_path / "photo.png", size=(50, 40))
    flags = ["--image", image, "--box", "10,10,20,25", "--prompt", RED, "--model", tmp_path / "base"]
    flags += ["--steps", 2, "--scale", 5, "--call-size", 1]
    assert call(*flags, "--out", tmp_path / "a.png") == 0
    flags += ["--upsampler", tmp_path / "large", "--upsample-respacing", 2]
    assert call(*flags, "--out", tmp_path / "b.png") == 0
    for name in ("a", "b"):
        with Image.open(image) as old, Image.open(tmp_path / f"{name}.png") as new:
            unknown = inside((50, 40), (10, 10, 20, 25))
            assert np.array_equal(np.asarray(old)[~unknown], np.asarray(new)[~unknown])
            assert not np.array_equal(np.asarray(old), np.asarray(new))
    recipe = read_recipe(tmp_path / "b.png")
    assert recipe["painted_at"] == 64 and recipe["method"] == "model"
    assert recipe["upsampler"]["model"] == str(tmp_path / "large") and recipe["upsampler"]["respacing"] == "2"
