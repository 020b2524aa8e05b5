"""scripts/reconstruct.py: an autoencoder on pictures of any size, and bad input."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import reconstruct as script  # scripts/reconstruct.py
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.autoencoders import save_autoencoder
from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import render
from glide.utils.cli import run
from glide.utils.images import load_image
from support.sample_script import Capture
from tests.support.latent import small_autoencoder
from toolkit.commands import reconstruct as command
from toolkit.evaluation import reconstruction
from toolkit.evaluation.reconstruction import Measured, Original, Summary, facts_lost, measure, table


class Shrinking(torch.nn.Module):
    """Keeps every pixel, but for what `change` does; its latents are four times smaller, as of 16 pixels each."""

    factor = 4

    def __init__(self, channels: int = 3, change: float = 0.0) -> None:
        super().__init__()
        self.picture_channels, self.latent_channels, self.change = channels, 16 * channels, change
        self.shapes: list[tuple[int, ...]] = []

    def encode(self, x: Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        height, width = x.shape[-2:]
        padded = torch.nn.functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        return torch.nn.functional.pixel_unshuffle(padded, 4)

    def decode(self, latents: Tensor) -> Tensor:
        return torch.nn.functional.pixel_shuffle(latents, 4) + self.change


def reconstruct(*argv: object) -> int:
    """Exit code of scripts/reconstruct.py, called in this process."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    channels = len(mode) if mode != "L" else 1
    values = np.random.default_rng(height).integers(60, 200, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values.squeeze(-1) if mode == "L" else values)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    picture(21, 30).save(folder / "odd.png")
    picture(16, 24, "L").save(folder / "grey.png")
    picture(12, 12, "RGBA").save(folder / "more" / "clear.png")
    picture(5, 8).save(folder / "small.png")
    (folder / "broken.png").write_bytes((folder / "odd.png").read_bytes()[:200])
    return folder


def use(monkeypatch: pytest.MonkeyPatch, model: torch.nn.Module) -> None:
    monkeypatch.setattr(command, "load_any_autoencoder", lambda name, device: model)


def test_pictures_of_any_size(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    model = Shrinking(change=10 / 127.5)  # 10 levels brighter
    use(monkeypatch, model)
    out = tmp_path / "out"
    assert reconstruct(photos, "--autoencoder", "any", "--out", out, "--worst", 2, "--device", "cpu") == 0
    text, err = capsys.readouterr()
    psnr = 10 * math.log10(255**2 / 100)
    record = json.loads((out / "reconstruct.json").read_text())
    images = {image["name"]: image for image in record["images"]}
    assert sorted(images) == ["grey.png", "more/clear.png", "odd.png", "small.png"]
    assert list(record["broken"]) == ["broken.png"] and "1 pictures were skipped" in text + err
    for name, image in images.items():  # transparency on white is as bright as it can be
        assert image["psnr"] == pytest.approx(psnr) or name == "more/clear.png"
    assert (images["odd.png"]["width"], images["odd.png"]["height"]) == (30, 21)
    assert [name for name, image in images.items() if image["padded"]] == ["odd.png", "small.png"]
    assert images["small.png"]["ssim"] is None and 0.9 < images["odd.png"]["ssim"] < 1
    assert record["padded"] == 2 and "2 of them padded to a multiple of 4 pixels, and cropped back" in text
    assert f"{record['psnr_mean']:.2f}" in text and f"{record['ssim_median']:.4f}" in text
    assert record["psnr_median"] == pytest.approx(psnr) and record["facts"] == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "reconstruct.json",
        "worst-01.png",
        "worst-02.png",
    ]
    assert all(shape[:2] == (1, 3) for shape in model.shapes)  # one picture at a time


def test_pairs_show_the_picture_and_its_reconstruction(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Shrinking(change=20 / 127.5))
    out = tmp_path / "out"
    assert reconstruct(photos, "--autoencoder", "any", "--out", out, "--all") == 0
    names = {
        image["name"]: image["pair"] for image in json.loads((out / "reconstruct.json").read_text())["images"]
    }
    assert (
        names["odd.png"] == "pair-000003-odd.png" and names["more/clear.png"] == "pair-000002-more_clear.png"
    )
    sheet, original = load_image(out / names["odd.png"]), load_image(photos / "odd.png")
    times = -(-command.READABLE // 30)
    large = original.repeat_interleave(times, 0).repeat_interleave(times, 1)
    height, width, _ = large.shape
    assert torch.equal(sheet[4 : 4 + height, 4 : 4 + width], large)
    assert torch.equal(sheet[4 : 4 + height, 12 + width : 12 + 2 * width], large + 20)
    below = sheet[4 + height :]
    assert (below[:, : width + 8] == 0).any() and (below[:, width + 8 :] == 0).any()  # labels


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (4, "RGBA")])
def test_pictures_follow_the_channels_of_the_autoencoder(
    channels: int, mode: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Shrinking(channels)
    use(monkeypatch, model)
    assert reconstruct(photos, "--autoencoder", "any", "--out", tmp_path / "out") == 0
    assert {shape[1] for shape in model.shapes} == {channels}
    record = json.loads((tmp_path / "out" / "reconstruct.json").read_text())
    assert {image["psnr"] for image in record["images"]} == {120.0}


def test_a_real_autoencoder_and_a_choice_of_pictures(photos: Path, tmp_path: Path) -> None:
    save_autoencoder(tmp_path / "ae", small_autoencoder())
    flags = ["--autoencoder", tmp_path / "ae", "--out", tmp_path / "out"]
    assert reconstruct(photos, *flags, "--pictures", 2, "--seed", 1) == 0
    record = json.loads((tmp_path / "out" / "reconstruct.json").read_text())
    assert len(record["images"]) + len(record["broken"]) == 2
    assert record["factor"] == 4 and len(record["fingerprint"]) == 16


def test_scenes_keep_their_facts_with_a_good_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    use(monkeypatch, Shrinking())
    flags = ["--autoencoder", "any", "--out", tmp_path / "out", "--pictures", 6, "--image-size", 34]
    assert reconstruct("shapes:one", *flags) == 0
    record = json.loads((tmp_path / "out" / "reconstruct.json").read_text())
    assert record["padded"] == 6 and record["facts_lost"] == {} and record["facts"] > 12
    assert f"facts lost: 0.0% of {record['facts']}" in capsys.readouterr().out
    assert all(image["name"].startswith("scene ") for image in record["images"])


def test_lost_facts_are_those_that_were_there() -> None:
    red, other = held_out_scenes(40, ("one",))[:2]
    first, second = (torch.from_numpy(render([scene], 64)[0]) for scene in (red, other))
    assert facts_lost(red.facts, first, first) == (len(red.facts), ())
    held, lost = facts_lost(red.facts, first, second)
    assert held == len(red.facts) and 0 < len(lost) <= held
    assert set(lost) <= {fact.kind for fact in red.facts}
    nothing = torch.full_like(first, 255)
    found, gone = facts_lost(red.facts, nothing, first)  # facts that were not there cannot be lost
    assert found < len(red.facts) and len(gone) <= found
    grey = first[..., :1]
    assert facts_lost(red.facts, grey, grey)[1] == ()


def measured(name: str, psnr: float, ssim: float | None, lost: tuple[str, ...] = ()) -> Measured:
    return Measured(name, 20, 10, False, psnr, ssim, 4, lost)


def test_means_medians_and_shares() -> None:
    every = [
        measured("a", 10, 0.5, ("color",)),
        measured("b", 20, None),
        measured("c", 60, 0.9, ("color", "size")),
    ]
    found = Summary.of(every)
    assert (found.psnr_mean, found.psnr_median) == (30.0, 20.0)
    assert (found.ssim_mean, found.ssim_median) == (pytest.approx(0.7), pytest.approx(0.7))
    assert found.facts == 12 and found.facts_lost == {"color": 2, "size": 1}
    text = table(found, every[:1], 4)
    assert "facts lost: 25.0% of 12 (2 color, 1 size)" in text and "padded" not in text
    assert text.splitlines()[-1].split() == ["10.00", "0.5000", "20x10", "a"]


def test_an_equal_picture_and_one_of_ten_levels() -> None:
    pixels = torch.full((16, 16, 3), 100, dtype=torch.uint8)
    original = Original("flat", lambda: pixels)
    assert measure(original, pixels, pixels, 4).psnr == 120.0
    assert measure(original, pixels, pixels + 10, 4).psnr == pytest.approx(10 * math.log10(255**2 / 100))


def test_earlier_results_are_kept(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    use(monkeypatch, Shrinking())
    flags = [photos, "--autoencoder", "any", "--out", tmp_path / "out"]
    assert reconstruct(*flags) == 0
    before = (tmp_path / "out" / "reconstruct.json").read_bytes()
    assert reconstruct(*flags) == 2
    assert "already holds results" in capsys.readouterr().err
    assert (tmp_path / "out" / "reconstruct.json").read_bytes() == before
    assert reconstruct(*flags, "--overwrite", "--worst", 0) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--autoencoder", "no/such/folder"], "there is no model 'no/such/folder'"),
        (["--autoencoder", "shapes"], "holds a diffusion model, expected an autoencoder model"),
        (["--autoencoder", "shapes", "--worst", "-1"], "got --worst -1, expected a whole number"),
        (["--autoencoder", "shapes", "--image-size", "8"], "got --image-size 8, expected a whole number"),
        ([], "--autoencoder"),
    ],
)
def test_bad_input_is_one_sentence(
    argv: list[str], message: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert reconstruct(photos, *argv, "--out", tmp_path / "out") == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_no_whole_picture_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    use(monkeypatch, Shrinking())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"nothing")
    assert reconstruct(tmp_path / "photos", "--autoencoder", "any", "--out", tmp_path / "out") == 2
    assert "every picture in" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_numbers_that_are_not_finite_are_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    use(monkeypatch, Shrinking(change=math.nan))
    assert reconstruct(photos, "--autoencoder", "any", "--out", tmp_path / "out") == 2
    assert "not finite from the autoencoder" in capsys.readouterr().err


def test_large_pairs_are_shown_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "LARGEST_PAIR", 100_000)
    pixels = torch.zeros(300, 400, 3, dtype=torch.uint8)
    found = reconstruction.measure(Original("a", lambda: pixels), pixels, pixels, 4)
    command._write_pair(tmp_path / "pair.png", found, pixels, pixels)
    with Image.open(tmp_path / "pair.png") as sheet:
        assert sheet.width == 2 * (200 + 8)
