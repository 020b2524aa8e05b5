"""scripts/evaluate_images.py: sets of every kind, a model, memorised pictures, resuming, and bad input."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import evaluate_images as script  # scripts/evaluate_images.py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from glide.data.datasets import is_held_out
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from support.sample_script import Capture
from support.scripts import call
from toolkit.commands import evaluate_images as command
from toolkit.evaluation.features import Features, features_named
from toolkit.evaluation.frechet_distance import frechet_distance
from toolkit.evaluation.npz_batches import read_batch, read_statistics

pytestmark = pytest.mark.filterwarnings(
    "always:.*pictures:UserWarning"
)  # of small samples, which the command prints


class Tiles(nn.Module):
    """Means of the colours of four quarters: 12 numbers, and two classes by the brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.seen += len(images)
        light = images.mean((1, 2, 3))
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1), 9 * torch.stack([-light, light], 1)


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Tiles:
    """The network of the features "tiles"."""
    network = Tiles()

    def named(name: str, device: torch.device) -> Features:
        if name != "tiles":
            return features_named(name, device)
        return Features(name, name, 8, 12, "tiles", network, device, ("dark", "light"))

    monkeypatch.setattr(command, "features_named", named)
    return network


def pictures(count: int, seed: int, side: int = 10) -> NDArray[np.uint8]:
    """Smooth noise around a colour of its own each."""
    rng = np.random.default_rng(seed)
    quarters = rng.integers(30, 225, (count, 2, 2, 3)).repeat(side // 2, 1).repeat(side // 2, 2)
    return (quarters + rng.integers(-30, 31, (count, side, side, 3))).clip(0, 255).astype(np.uint8)


def folder(path: Path, found: NDArray[np.uint8]) -> Path:
    path.mkdir(parents=True)
    for i, pixels in enumerate(found):
        Image.fromarray(pixels).save(path / f"{i:03}.png")
    return path


def evaluate(*argv: object) -> int:
    return call(script, *argv, "--features", "tiles", "--device", "cpu", "--resamples", "30", "--shown", "2")


def record(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text("utf-8"))
    return found


class Links(HTMLParser):
    """All that a page refers to, and its open tags."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in ("meta", "img"):
            self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag


def test_two_folders_are_compared(tiles: Tiles, tmp_path: Path, capsys: Capture) -> None:
    one, other = folder(tmp_path / "one", pictures(40, 0)), folder(tmp_path / "<b>&", pictures(30, 1))
    (one / "broken.png").write_bytes(b"none")
    out = tmp_path / "out"
    assert evaluate("--generated", one, "--data", other, "--out", out) == 0
    text, err = capsys.readouterr()
    assert "warning: the Fréchet distance of 30 pictures with 12 features" in err
    assert "1 pictures of" in text and "Fréchet distance" in text and "FID" not in text
    found = record(out)
    assert found["generated"]["pictures"] == 40 and list(found["generated"]["broken"]) == ["broken.png"]
    (features,) = found["features"]
    assert set(features["figures"]) == {
        "frechet_distance", "kernel_distance", "sliced_wasserstein", "precision", "recall", "density", "coverage",
        "class_score",
    }  # fmt: skip
    for one_figure in features["figures"].values():
        assert one_figure["low"] <= one_figure["value"] <= one_figure["high"] and one_figure["real"] is None
    assert "memorisation" not in features and len(features["warnings"]) == 2
    page, links = (out / "evaluation.html").read_text("utf-8"), Links()
    links.feed(page)
    assert (
        links.tags == []
        and links.links
        and all(link.startswith("data:image/png;base64,") for link in links.links)
    )
    assert "<script" not in page and "<b>&" not in page and "&lt;b&gt;&amp;" in page


def test_nothing_is_computed_twice_and_results_are_kept(
    tiles: Tiles, tmp_path: Path, capsys: Capture
) -> None:
    one, other = folder(tmp_path / "one", pictures(12, 0)), folder(tmp_path / "other", pictures(14, 1))
    flags = ("--generated", one, "--data", other, "--out", tmp_path / "out")
    assert evaluate(*flags) == 0
    before = record(tmp_path / "out")
    assert tiles.seen == 26 and evaluate(*flags) == 2
    assert "already holds results" in capsys.readouterr().err
    assert evaluate(*flags, "--overwrite") == 0
    after = record(tmp_path / "out")
    assert tiles.seen == 26 and {**before, "seconds": 0} == {**after, "seconds": 0}


def test_memorised_pictures_are_found_and_new_ones_are_not(tiles: Tiles, tmp_path: Path) -> None:
    data = folder(tmp_path / "data", pictures(300, 0))
    held = {path.name for path in data.iterdir() if is_held_out(path.name, 0.4)}
    copies = [np.asarray(Image.open(path)) for path in sorted(data.iterdir()) if path.name not in held][:50]
    for name, generated, memorised in (("copies", np.stack(copies), True), ("new", pictures(100, 1), False)):
        flags = ("--generated", folder(tmp_path / name, generated), "--data", data, "--held-out", 0.4)
        assert evaluate(*flags, "--out", tmp_path / f"{name}-out") == 0
        found = record(tmp_path / f"{name}-out")
        assert found["held_out"]["pictures"] == len(held)
        near = found["features"][0]["memorisation"]
        assert near["found"] == memorised and (near["near"]["value"] == 1.0) == memorised
        said = (tmp_path / f"{name}-out/evaluation.html").read_text("utf-8")
        assert ("Memorisation is found" in said) == memorised
        real = found["features"][0]["figures"]["frechet_distance"]["real"]
        assert real["low"] < real["value"] < real["high"]


def test_batches_and_statistics_of_guided_diffusion(tiles: Tiles, tmp_path: Path, capsys: Capture) -> None:
    one, batch, statistics = pictures(20, 0), tmp_path / "batch.npz", tmp_path / "statistics.npz"
    np.savez(tmp_path / "data.npz", pictures(25, 1))
    data = tmp_path / "data.npz"
    flags = ("--generated", folder(tmp_path / "one", one), "--out", tmp_path / "a")
    assert evaluate(*flags, "--data", data, "--save-batch", batch, "--save-statistics", statistics) == 0
    assert np.array_equal(read_batch(str(batch)), one)
    assert evaluate("--generated", batch, "--data", statistics, "--out", tmp_path / "b") == 0
    exact = record(tmp_path / "a")["features"][0]["figures"]["frechet_distance"]["value"]
    found = record(tmp_path / "b")
    assert found["data"] == {"name": str(statistics), "statistics": True}
    assert found["features"][0]["figures"]["frechet_distance"]["value"] == pytest.approx(exact, rel=1e-6)
    assert frechet_distance(read_statistics(str(statistics)), read_statistics(str(statistics))) < 1e-6
    assert evaluate(*flags[:2], "--data", statistics, "--held-out", 0.1, "--out", tmp_path / "c") == 2
    assert "expected pictures" in capsys.readouterr().err
    np.savez(tmp_path / "wide.npz", mu=np.zeros(3), sigma=np.eye(3))
    assert evaluate(*flags[:2], "--data", tmp_path / "wide.npz", "--out", tmp_path / "d") == 2
    assert "12 wide and others 3 wide" in capsys.readouterr().err


def test_a_model_draws_the_captions_of_the_data_once(
    tiles: Tiles, text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = folder(tmp_path / "data", pictures(9, 0))
    for i in range(9):
        (data / f"{i:03}.txt").write_text(f"a red circle {i}")
    flags = ("--model", text_folder, "--data", data, "--pictures", 7, "--steps", 2, "--batch-size", 4)
    flags = (*flags, "--call-size", 2)
    out = ("--out", tmp_path / "out")
    assert evaluate(*flags, *out) == 0
    drawn = sorted((tmp_path / "out/generated").glob("*.png"))
    assert len(drawn) == 7 and record(tmp_path / "out")["generated"]["sizes"] == {"8x8": 7}
    recipe = read_recipe(drawn[3])
    assert recipe["seed"] == 3 and recipe["prompt"].startswith("a red circle")
    before = [path.read_bytes() for path in drawn]
    drawn[5].unlink()
    calls: list[int] = []
    draw: Callable[..., Any] = command.Pipeline.draw

    def counted(self: Any, pictures: Any, *rest: Any, **named: Any) -> Any:
        calls.append(len(pictures))
        return draw(self, pictures, *rest, **named)

    monkeypatch.setattr(command.Pipeline, "draw", counted)
    assert evaluate(*flags, *out, "--overwrite") == 0
    assert [path.read_bytes() for path in drawn] == before and calls == [3]


def test_class_accuracy_by_names_of_class_folders(tiles: Tiles, tmp_path: Path) -> None:
    for name, level in (("dark", 40), ("light", 220)):
        folder(tmp_path / "one" / name, np.full((6, 8, 8, 3), level, np.uint8))
        folder(tmp_path / "data" / name, np.full((6, 8, 8, 3), level + 5, np.uint8))
    (tmp_path / "one/light/000.png").unlink()
    Image.new("RGB", (8, 8), (10, 10, 10)).save(tmp_path / "one/light/000.png")
    assert (
        evaluate("--generated", tmp_path / "one", "--data", tmp_path / "data", "--out", tmp_path / "out") == 0
    )
    accuracy = record(tmp_path / "out")["features"][0]["figures"]["class_accuracy"]
    assert accuracy["value"] == pytest.approx(11 / 12)


def test_captions_give_a_clip_score(tmp_path: Path) -> None:
    flags = ("--generated", "shapes:one", "--data", "shapes", "--pictures", 8, "--device", "cpu")
    named = ("--features", "noisy-clip:shapes-clip", "--resamples", 20, "--shown", 1)
    assert call(script, *flags, *named, "--out", tmp_path / "out") == 0
    figures = record(tmp_path / "out")["features"][0]["figures"]
    assert {"clip_score", "cmmd"} <= set(figures)
    assert figures["clip_score"]["value"] > 30 and figures["clip_score"]["real"]["value"] > 30


WRONG = {
    "neither": ([], "got neither of --generated and --model"),
    "both": (["--generated", "one", "--model", "shapes"], "got both of --generated and --model"),
    "no folder": (["--generated", "nowhere"], "nowhere"),
    "features": (
        ["--generated", "one", "--features", "vgg"],
        "got the features 'vgg', expected efficientnet-lite0",
    ),
    "one picture": (["--generated", "single"], "got 1 whole picture in single"),
    "mixed": (["--generated", "mixed"], "got 1 transparent pictures among 2"),
    "batch name": (["--generated", "one", "--save-batch", "x.png"], "expected a name that ends in .npz"),
    "pictures": (["--generated", "one", "--pictures", "1"], "got --pictures 1"),
    "captions": (["--model", "shapes"], "without a caption for"),
}


@pytest.mark.parametrize(("flags", "said"), WRONG.values(), ids=WRONG)
def test_bad_input_is_one_sentence(
    flags: list[str],
    said: str,
    tiles: Tiles,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder(Path("one"), pictures(3, 0))
    folder(Path("single"), pictures(1, 0))
    folder(Path("mixed"), pictures(1, 0))
    Image.new("RGBA", (9, 9), (9, 9, 9, 0)).save("mixed/clear.png")
    named = [] if "--features" in flags else ["--features", "tiles"]
    assert call(script, *flags, "--data", "one", *named, "--device", "cpu") == 2
    err = capsys.readouterr().err
    assert re.match(r"error: [^\n]+\n\Z", err) and said in err
    assert not Path("outputs/evaluate-images/evaluation.json").exists()


def test_sets_of_other_sizes_are_brought_to_one(tiles: Tiles, tmp_path: Path, capsys: Capture) -> None:
    one, other = folder(tmp_path / "one", pictures(9, 0, 16)), folder(tmp_path / "other", pictures(9, 1, 10))
    flags = ("--generated", one, "--data", other)
    assert evaluate(*flags, "--out", tmp_path / "a") == 0
    assert re.search("mostly 16x16 and those of .* 10x10.*--image-size", capsys.readouterr().err)
    assert evaluate(*flags, "--image-size", 10, "--out", tmp_path / "b") == 0
    assert record(tmp_path / "b")["generated"]["sizes"] == {"10x10": 9}
    with pytest.raises(InputError, match="got a picture of"):
        args = {"generated": str(one), "data": str(other), "features": ("tiles",), "out": tmp_path / "c"}
        Image.new("RGB", (7, 7)).save(one / "000.png")
        command.evaluate_images(command.EvaluateImages(**args, save_batch=tmp_path / "x.npz", resamples=10))  # type: ignore[arg-type]


def test_features_of_parts_are_all_that_the_whole_run_needs(
    tiles: Tiles, tmp_path: Path, capsys: Capture
) -> None:
    sets = [folder(tmp_path / name, pictures(count, count)) for name, count in (("one", 9), ("data", 12))]
    flags = ("--generated", sets[0], "--data", sets[1])
    cache = ("--cache", tmp_path / "features")
    for part in ("1/2", "2/2", "2/2"):
        assert evaluate(*flags, *cache, "--part", part) == 0
    said = [line.split(": ")[1] for line in capsys.readouterr().out.splitlines() if line.startswith("part")]
    computed = ("4 of 4", "6 of 6", "5 of 5", "6 of 6", "0 of 5", "0 of 6")
    assert said == [f"{found} pictures computed" for found in computed]
    before = tiles.seen
    assert evaluate(*flags, *cache, "--out", tmp_path / "a") == 0 and tiles.seen == before
    assert evaluate(*flags, *cache, "--part", "0/2") == 2
    assert "expected I/N" in capsys.readouterr().err
    assert evaluate(*flags, "--part", "1/2") == 2
    assert "give --generated and --cache" in capsys.readouterr().err
