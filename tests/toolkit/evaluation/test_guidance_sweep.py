"""The guidance sweep: its measures against exact answers, and the whole of it at tiny size."""

import csv
import math
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glide.checkpoints.load import save_model
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer, held_out_scenes, render
from glide.shapes.oracle import Oracle, read_scene
from glide.shapes.scene import POSITIONS, SIZES, Fact, Scene, Thing, parse_caption, write_caption
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS, ClassifierConfig
from guidance.classifier.load import save_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.options import Options
from support.sample_script import ROOT, Capture
from toolkit.commands.guidance_sweep import picture_name, plan, sweep
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.evaluation.diversity import OPEN, Spread, differing, free, of_data, saturation
from toolkit.evaluation.prompts import classes, held_out, open_captions
from toolkit.pipelines.pipeline import Pipeline, Step
from toolkit.pipelines.settings import SamplingConfig

# --- measures -------------------------------------------------------------------------------------------------------


def test_differing_is_the_probability_that_two_differ() -> None:
    assert differing("aaaa") == 0.0 and differing("abcd") == 1.0
    assert differing("aabb") == pytest.approx(4 / 6)
    assert math.isnan(differing("a")) and math.isnan(differing(""))
    drawn = np.random.default_rng(0).integers(9, size=20_000).tolist()
    assert differing(drawn) == pytest.approx(8 / 9, abs=0.01)  # no bias from their number


def test_only_what_is_left_open_counts() -> None:
    assert free(parse_caption("a circle")) == OPEN
    assert free(parse_caption("a large red circle on the left on a white background")) == ()
    assert free(parse_caption("a red circle")) == ("position", "size", "background")


def picture_of(facts: tuple[Fact, ...]) -> Scene:
    """A scene of one thing in which they hold; the rest is medium, red, in the center and on white."""
    said = {fact.kind: fact.value for fact in facts}
    size = str(said.get("size", "medium"))
    column, row = POSITIONS[str(said.get("position", "in the center"))]
    background = str(said.get("background", "white"))
    color = str(said.get("color", "red"))
    if color in background or (color, background) in (("yellow", "white"), ("orange", "white")):
        background = "black"
    thing = Thing(
        str(said["shape"]), color, size, *((0.25, 0.5, 0.75)[i] for i in (column, row)), sum(SIZES[size]) / 2
    )
    return Scene((thing,), background, "one", write_caption(facts), facts)


def test_the_spread_of_pictures_whose_scenes_are_known() -> None:
    facts = parse_caption("a red circle")
    places = [(0.25, 0.25), (0.25, 0.25), (0.75, 0.25), (0.75, 0.75)]
    things = [Thing("circle", "red", "small", x, y, 0.125) for x, y in places]
    scenes = [Scene((thing,), "white", "one", "a red circle", facts) for thing in things]
    oracle, spread = Oracle(), Spread()
    spread.add(facts, [oracle.read(image) for image in render(scenes, 64)])
    assert (spread.of("position"), spread.of("size"), spread.of("background")) == (
        pytest.approx(5 / 6),
        0.0,
        0.0,
    )
    assert math.isnan(spread.of("color")) and spread.all == pytest.approx(5 / 18)
    spread.add(parse_caption("a circle"), [])  # none was right
    spread.add(parse_caption("a circle"), [read_scene(scenes[0])])  # one has nothing to differ from
    assert spread.all == pytest.approx(5 / 18) and spread.pictures == 4


def test_the_data_is_diverse() -> None:
    diversity = of_data(held_out_scenes(3000, ("one",)))
    assert diversity["position"] == pytest.approx(8 / 9, abs=0.02)
    assert diversity["background"] == pytest.approx(5 / 6, abs=0.02)
    medium = 1 / (1 + 2 * 0.3)  # a medium thing is never said to be so, the others in 7 of 10 captions
    assert diversity["size"] == pytest.approx(1 - medium**2 - (1 - medium) ** 2 / 2, abs=0.03)


def test_saturation() -> None:
    colours = torch.tensor([[0, 0, 0], [128, 128, 128], [255, 0, 0], [0, 102, 51]], dtype=torch.uint8)
    assert saturation(colours.reshape(1, 2, 2, 3)) == pytest.approx((1.0 + 0.4) / 4)


def test_open_captions() -> None:
    asked = open_captions(20, seed=0)
    assert [parse_caption(one.caption) for one in asked] == [one.facts for one in asked]
    assert {len(free(one.facts)) for one in asked} == {3, 4} and len({one.caption for one in asked}) > 15
    assert asked == open_captions(20, seed=0) != open_captions(20, seed=1)
    assert [one.caption for one in held_out(3, ("one",), 0)] == [
        s.caption for s in held_out_scenes(3, ("one",))
    ]


def test_classes_as_facts() -> None:
    found = classes(ClassifierConfig(num_classes=2, class_names=("star", "red")))
    assert [(one.label, one.facts) for one in found] == [
        (0, (Fact("shape", "star"),)),
        (1, (Fact("color", "red"),)),
    ]
    for names in ((), ("star", "dog")):
        with pytest.raises(InputError, match="the oracle cannot judge"):
            classes(ClassifierConfig(num_classes=2, class_names=names))


# --- the whole ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the built-in scenes, 16x16, and a classifier for it, that have learned nothing."""
    folder = tmp_path_factory.mktemp("models")
    save_model(folder / "model", Model(PRESETS["tiny"], Tokenizer.train(captions_for_tokenizer(), 512, 24)))
    config = {**CLASSIFIERS["tiny"].to_dict(), "num_classes": 2, "class_names": ("star", "red")}
    save_classifier(folder / "classifier", NoisyClassifier(ClassifierConfig.from_dict(config)))
    return folder


def small(folder: Path, out: Path, **changes: Any) -> Sweep:
    sizes: dict[str, Any] = {"captions": 5, "open_captions": 2, "pictures": 2, "steps": 4, "batch_size": 4}
    return Sweep(**{"model": str(folder / "model"), "out": out, "device": "cpu", **sizes, **changes})


@pytest.mark.slow
def test_a_sweep(folder: Path, tmp_path: Path) -> None:
    guidance = ("none", "cfg", "cfg@300-700", "apg:3", "cfg:2+pag")
    args = small(
        folder, tmp_path, guidance=guidance, scales=(1.0, 3.0), guiding=Options(apg_eta=0.5), sampler="ddim"
    )
    sweep(args)
    with (tmp_path / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    calls = [(row["guidance"], row["scale"], float(row["calls"])) for row in rows]
    assert calls == [  # of four steps at 999, 666, 333 and 0
        ("data", "", 0),
        ("none", "", 4),
        ("cfg", "1", 4),
        ("cfg", "3", 8),
        ("cfg@300-700", "1", 4),
        ("cfg@300-700", "3", 6),
        ("apg", "3", 8),
        ("cfg:2+pag", "1", 12),
        ("cfg:2+pag", "3", 12),
    ]
    assert all(0 <= float(row["fidelity"]) <= 1 and 0 <= float(row["saturation"]) <= 1 for row in rows)
    assert rows[0]["fidelity"] == "1" and float(rows[0]["diversity"]) > 0.5
    images = sorted(path.name for path in tmp_path.glob("*.png"))
    names = [
        "none",
        "cfg-1",
        "cfg-3",
        "cfg@300-700-1",
        "cfg@300-700-3",
        "apg-3",
        "cfg2-pag-1",
        "cfg2-pag-3",
        "sweep",
    ]
    assert images == sorted(f"{name}.png" for name in names)


@pytest.mark.slow
def test_a_classifier_says_what_to_draw(folder: Path, tmp_path: Path) -> None:
    guiding = Options(classifier=str(folder / "classifier"))
    args = small(folder, tmp_path, ask="class", guidance=("classifier:5",), guiding=guiding, no_plot=True)
    _, point = sweep(args)
    assert (point.guidance, point.scale, point.asked, point.calls) == ("classifier", 5.0, 5, 4.0)
    assert not (tmp_path / "sweep.png").exists()


@pytest.mark.slow
def test_perfect_pictures_that_are_all_alike(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(self: Pipeline, pictures: list[ImageRequest], settings: SamplingConfig) -> Iterator[Step]:
        images = render([picture_of(parse_caption(picture.caption)) for picture in pictures], 64)
        x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        yield Step(0, 0, x, x)

    monkeypatch.setattr(Pipeline, "draw", draw)
    args = small(
        folder, tmp_path, guidance=("none",), kinds=("one",), captions=10, open_captions=10, no_plot=True
    )
    data, point = sweep(args)
    assert (point.fidelity, point.diversity) == (1.0, 0.0) and data.diversity > 0.7


@pytest.mark.slow
def test_the_best_of_several_is_judged(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three pictures of each caption the last is right, and a CLIP that sees so finds it: all or nothing."""
    seen = []

    def draw(self: Pipeline, pictures: list[ImageRequest], settings: SamplingConfig) -> Iterator[Step]:
        scenes = [picture_of(parse_caption(picture.caption)) for picture in pictures]
        images = render(scenes, 64).astype(np.float32)
        for image, picture in zip(images, pictures, strict=True):
            if picture.seed < 30 and picture.seed % 3 < 2:
                image[:] = 128
        x = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
        yield Step(0, 0, x, x)

    def fit(clip: object, images: torch.Tensor, caption: str) -> torch.Tensor:
        seen.append(len(images))
        return images.flatten(1).std(dim=1)

    monkeypatch.setattr(Pipeline, "draw", draw)
    monkeypatch.setattr("guidance.clip.rerank.fit_of", fit)
    kinds = {"guidance": ("none",), "kinds": ("one",), "captions": 10, "no_plot": True}
    _, best = sweep(small(folder, tmp_path / "best", best_of=3, **kinds))
    assert (best.fidelity, best.asked, seen) == (1.0, 10, [3] * 10)
    _, first = sweep(small(folder, tmp_path / "first", **kinds))
    assert first.right == 3 and len(seen) == 10  # of the seeds 0 to 9: 2, 5 and 8


def test_the_plan() -> None:
    def points(*guidance: str) -> list[tuple[str, float]]:
        return [(line, scale) for line, scale, _ in plan(Sweep(guidance=guidance, scales=(2.0, 3.0)))]

    assert points("clip:20", "clip:50@0-800") == [("clip", 20.0), ("clip@0-800", 50.0)]
    assert points("cfg~cos@9-99") == [("cfg~cos@9-99", 2.0), ("cfg~cos@9-99", 3.0)]
    assert points("cfg:7~exp:2") == [("cfg~exp:2", 7.0)]
    ((line, scale),) = points("cfg:0..5@9-99")
    assert line == "cfg:0..5@9-99" and math.isnan(scale)
    assert picture_name(line, scale) == "cfg0..5@9-99.png"
    assert points("cfg+pag:1") == [("cfg+pag:1", 2.0), ("cfg+pag:1", 3.0)]
    (line, scale), *others = points("cfg:3+pag:1")
    assert line == "cfg:3+pag:1" and math.isnan(scale) and not others
    settings = [settings for *_, settings in plan(Sweep(guidance=("cfg@9-99+pag:1",), scales=(2.0,)))]
    assert [str(spec) for spec in settings[0].specs] == ["cfg:2@9-99", "pag:1"]
    assert len(plan(Sweep())) == 16


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"captions": 0}, "--captions 0"),
        ({"pictures": 1}, "--pictures 1, expected a whole number from 2"),
        ({"best_of": 0}, "--best-of 0"),
        ({"best_of": 2, "ask": "class"}, "--best-of 2 --ask class, expected captions"),
        ({"guidance": ("magic",)}, "'magic'"),
        ({"guidance": ("cfg:3+",)}, "NAME:SCALE"),
        ({"scales": (-1.0,)}, "--scales -1.0"),
        ({"guiding": Options(weak="x")}, "expected --guidance auto"),
        ({"guidance": ("auto",)}, "give --weak NAME"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all"),
    ],
)
def test_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sweep(small(folder, tmp_path, **changes))


@pytest.mark.slow
def test_the_script(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    flags = "--guidance cfg:2 --captions 2 --open-captions 1 --pictures 2 --steps 2 --batch-size 4 --no-plot"
    command = ["guidance_sweep.py", "--model", str(folder / "model"), "--out", str(tmp_path), *flags.split()]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts/guidance_sweep.py"), run_name="__main__")
    assert end.value.code == 0 and (tmp_path / "sweep.csv").exists(), capsys.readouterr().err
    assert "cfg 2: " in capsys.readouterr().out
