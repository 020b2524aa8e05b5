"""Training a noisy classifier: it learns, resumes exactly, measures itself, and says what does not fit."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_classifier as script  # scripts/train_classifier.py
from PIL import Image
from safetensors.torch import load_file

from glide.checkpoints.load import read_config, save_model
from glide.data.labelled import TARGETS, LabelledShapes, open_labelled
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.shapes.dataset import Shapes
from glide.training.config import OptimConfig, TrainConfig
from glide.utils.errors import InputError
from guidance.classifier import train as training
from guidance.classifier.load import load_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.classifier.noise_levels import accuracy, measure
from guidance.classifier.train import train_classifier
from guidance.classifier.train_flags import TrainClassifier
from guidance.noise_levels import spread
from support.sample_script import Capture, refused
from support.scripts import call

CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    optim=OptimConfig(lr=1e-3, weight_decay=0.05, warmup=2, cooldown=1.0),
    ema=(0.9, 0.99),
    dtype="float32",
    log_every=2,
    save_every=2,
    sample_every=3,
)


def settings(out: Path, **changes: Any) -> TrainClassifier:
    train = dataclasses.replace(CONFIG, **changes.pop("train", {}))
    small: dict[str, Any] = {"preset": "tiny", "target": "color", "held_out_images": 16, "levels": 2}
    return TrainClassifier(out=out, train=train, **{**small, **changes})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of plainly coloured pictures."""
    folder, rng = tmp_path_factory.mktemp("fruit"), np.random.default_rng(0)
    for name, colour in {"apple": (220, 30, 30), "kiwi": (30, 200, 30), "plum": (40, 30, 200)}.items():
        (folder / name).mkdir()
        for i in range(16):
            pixels = np.clip(np.array(colour) + rng.integers(-30, 30, (20, 24, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train_classifier(settings(out, dropout=0.1))
    return out


@pytest.mark.slow
def test_a_run_writes_a_classifier_a_log_and_its_noise_levels(whole: Path) -> None:
    log = lines(whole / "log.jsonl")
    assert [line["step"] for line in log] == [2, 4, 6] and all(0 <= line["accuracy"] <= 1 for line in log)
    assert log[-1]["rate"] == pytest.approx(1 / 6)  # falls to zero from the start
    levels = lines(whole / "levels.jsonl")
    assert [(line["step"], line["t"]) for line in levels] == [(3, 250), (3, 750), (6, 250), (6, 750)]
    assert all(line["loss"] > 0 and 0 <= line["accuracy"] <= line["accuracy5"] <= 1 for line in levels)
    assert levels[0]["log_snr"] > levels[1]["log_snr"]
    training = read_config(whole)["training"]
    assert training["step"] == 6 and training["target"] == "color" and training["log"] == log[-1]
    assert training["levels"] == [{k: v for k, v in line.items() if k != "step"} for line in levels[2:]]
    model = load_classifier(whole)
    assert model.config.class_names == TARGETS["color"] and model.config.noised
    assert model.config.process == PRESETS["tiny"].process and model.config.encoder.dropout == 0.1
    ema = load_file(whole / "checkpoints/step-0000006/ema-0.9.safetensors")
    assert all(torch.equal(p, ema[k]) for k, p in model.named_parameters())


@pytest.mark.slow
def test_resume_is_exact(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"

    class Stop(Exception):
        pass

    def stop(*args: object) -> None:
        raise Stop

    with monkeypatch.context() as patched, pytest.raises(Stop):
        patched.setattr("guidance.train_common._report", stop)
        train_classifier(settings(out, dropout=0.1, train={"sample_every": 5}))
    assert [line["step"] for line in lines(out / "log.jsonl")] == [2, 4]
    train_classifier(settings(out, dropout=0.1, resume=True))
    for name in ("model", "ema-0.9", "ema-0.99"):
        a, b = (load_file(run / f"checkpoints/step-0000006/{name}.safetensors") for run in (whole, out))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name
    timeless = [
        [
            {k: v for k, v in line.items() if k not in ("images_per_second", "memory_gib")}
            for line in lines(run / "log.jsonl")
        ]
        for run in (whole, out)
    ]
    assert timeless[0] == timeless[1]
    assert lines(whole / "levels.jsonl")[2:] == lines(
        out / "levels.jsonl"
    )  # its measurement of step 3 was skipped


@pytest.mark.slow
def test_class_folders_are_learnt_at_every_noise_level(fruit: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    optim = OptimConfig(lr=2e-3, muon_lr=0.02, weight_decay=0.05, warmup=2, cooldown=0.5)
    train = {"steps": 40, "batch_size": 16, "optim": optim, "sample_every": 40, "save_every": 40}
    train_classifier(settings(out, data=str(fruit), held_out=0.25, train=train | {"ema": (0.8,)}))
    model = load_classifier(out)
    assert model.config.class_names == ("apple", "kiwi", "plum")
    low, high = lines(out / "levels.jsonl")
    assert low["accuracy"] > 0.9 and high["accuracy"] > 0.6, (low, high)  # guessing is a third
    assert low["accuracy5"] is None
    with pytest.raises(InputError, match="has other classes than the run"):
        train_classifier(settings(out, resume=True))


@pytest.mark.slow
def test_a_clean_classifier_is_trained_and_measured_without_noise(tmp_path: Path) -> None:
    out = tmp_path / "run"
    optim = OptimConfig(lr=1e-3, muon_lr=0.02, weight_decay=0.05, warmup=5, cooldown=1.0)
    train = {"steps": 60, "batch_size": 32, "optim": optim, "sample_every": 60, "save_every": 60}
    model = train_classifier(settings(out, noised=False, train=train | {"ema": (0.9,)}, held_out_images=64))
    (line,) = lines(out / "levels.jsonl")
    assert line["t"] is None and line["log_snr"] is None and not model.config.noised
    assert line["accuracy"] > 0.4, line  # guessing is a twelfth


def test_like_takes_the_noise_of_the_model_to_steer(tmp_path: Path, class_folder: Path) -> None:
    process = dataclasses.replace(PRESETS["tiny"].process, shift=3.0)
    like = dataclasses.replace(PRESETS["tiny"], text=None, process=process)
    save_model(tmp_path / "base", Model(like))
    train = {"steps": 1, "save_every": 1}
    model = train_classifier(settings(tmp_path / "run", like=str(tmp_path / "base"), held_out=0, train=train))
    assert model.config.process == process
    with pytest.raises(InputError, match=r"--like .*16x16 pixels for a model of 8x8"):
        train_classifier(settings(tmp_path / "x", like=str(class_folder)))


def test_labels_of_scenes() -> None:
    for target, names in TARGETS.items():
        data = open_labelled("shapes:one=1,count=1", 16, target, seed=3)  # type: ignore[arg-type]
        batch, scenes = data.batch(2, 40), Shapes(3, 16, ("one", "count"), (1.0, 1.0)).scenes(2, 40)
        for y, scene in zip(batch["y"].tolist(), scenes, strict=True):
            assert {getattr(thing, target) for thing in scene.things} == {names[y]}
        assert (
            set(batch) == {"image", "y"} and data.class_names == names and not data.captions_for_tokenizer()
        )


def test_measuring() -> None:
    assert spread(1000, 4) == [125, 375, 625, 875]
    logits, y = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]]), torch.tensor([1, 2])
    assert accuracy(logits, y).tolist() == [0.0, 1.0] and accuracy(logits, y, 2).tolist() == [1.0, 1.0]
    config = dataclasses.replace(training.CLASSIFIERS["tiny"], num_classes=7, pool="adaptive")
    net = NoisyClassifier(config).eval()  # its last layer is zero: every class is equally likely
    image = torch.randn(70, 3, 16, 16)
    levels = measure(net, image, torch.arange(70) % 7, [10, 990, None], torch.float32)
    assert [level.loss for level in levels] == pytest.approx([np.log(7)] * 3)
    assert [level.t for level in levels] == [10, 990, None]


@pytest.mark.slow
def test_plots_need_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(InputError, match=r"plots need matplotlib.*glide-toolkit\[plot\]"):
            train_classifier(settings(tmp_path / "run", plot=True))
        assert not (tmp_path / "run").exists()
    pytest.importorskip("matplotlib")
    train_classifier(settings(tmp_path / "run", plot=True, train={"steps": 1, "save_every": 1}))
    with Image.open(tmp_path / "run/samples/0000001.png") as picture:
        assert picture.width > picture.height > 100


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"init": "shapes"}, "--init shapes: time_in.weight is"),
        ({"target": "size"}, "target 'size', expected shape or color"),
        ({"preset": "nope"}, "--preset 'nope'"),
        ({"resume": True}, "no checkpoint in"),
        ({"held_out_images": 0}, "--held-out-images 0"),
        ({"like": "nowhere"}, "no model 'nowhere'"),
        ({"data": "/nowhere"}, "/nowhere"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        train_classifier(settings(tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_more_refusals(whole: Path, fruit: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a run"):
        train_classifier(settings(whole))
    with pytest.raises(InputError, match="fewer than a batch of 64"):
        train_classifier(settings(tmp_path / "x", data=str(fruit), train={"batch_size": 64}))
    one = tmp_path / "one"
    (one / "apple").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(one / "apple" / "0.png")
    with pytest.raises(InputError, match="has only one class"):
        train_classifier(settings(tmp_path / "x", data=str(one), held_out=0))
    captioned = tmp_path / "captioned"
    captioned.mkdir()
    Image.new("RGB", (16, 16)).save(captioned / "0.png")
    (captioned / "0.txt").write_text("a picture")
    with pytest.raises(InputError, match="has captions, expected pictures of at least two classes"):
        train_classifier(settings(tmp_path / "x", data=str(captioned), held_out=0))


@pytest.mark.slow
def test_the_script_says_it_in_one_line(tmp_path: Path, capsys: Capture) -> None:
    refused(call(script, "--out", tmp_path / "x", "--data", "shapes:nothing"), capsys, "nothing")


def test_a_scene_of_different_things_is_labelled_by_any_of_them() -> None:
    data = LabelledShapes(Shapes(seed=3, kinds=("pair",)), "color")
    scenes, y = data.shapes.scenes(5, 400), data.batch(5, 400)["y"].tolist()
    assert y == data.batch(5, 400)["y"].tolist()
    places = [[TARGETS["color"].index(t.color) for t in scene.things] for scene in scenes]
    assert all(label in of_scene for label, of_scene in zip(y, places, strict=True))
    differ = [(label == a, label) for label, (a, b) in zip(y, places, strict=True) if a != b]
    assert 0.4 < sum(first for first, _ in differ) / len(differ) < 0.6


@pytest.mark.slow
@pytest.mark.parametrize("inpaint", [False, True])
def test_a_classifier_begins_as_the_model_it_is_to_steer(tmp_path: Path, inpaint: bool) -> None:
    base = Model(dataclasses.replace(PRESETS["tiny"], inpaint=inpaint))
    save_model(tmp_path / "base", base)
    model = train_classifier(
        settings(
            tmp_path / "run", init=str(tmp_path / "base"), train={"steps": 1, "optim": OptimConfig(lr=0.0)}
        )
    )
    ours, theirs = model.encoder.state_dict(), base.unet.state_dict()
    # of an inpainting model those of x_t, 3 planes in patches of 2x2 pixels: the planes of the known pixels follow
    theirs["stem.weight"] = theirs["stem.weight"][:, :12]
    assert all(torch.equal(p, theirs[name]) for name, p in ours.items())
