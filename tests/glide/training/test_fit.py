"""The training loop: exact resume (also after kill -9), what it writes, what it refuses."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import train_base as script  # scripts/train_base.py
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, read_config
from glide.data.prefetch import GIL_FREE
from glide.data.wrappers import caption_inputs
from glide.diffusion.conditioning import Conditioning
from glide.diffusion.timestep_config import TimestepConfig
from glide.networks.model import Model
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.training.step import Stepper
from glide.training.train_base import PREVIEW_CAPTIONS, train_base
from glide.utils.errors import InputError
from support.models import CAPTIONS
from support.paths import ROOT
from support.scripts import call
from support.training_settings import CONFIG, settings
from toolkit.pipelines.pipeline import Pipeline


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train_base(settings(out))
    return out


def losses(out: Path) -> list[tuple[int, float, list[float | None]]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["loss_quarters"]) for line in lines]


def assert_same_run(a: Path, b: Path) -> None:
    """Weights, averages, log and samples agree bit for bit."""
    last = sorted((a / "checkpoints").iterdir())[-1].name
    for name in ("model", "ema-0.9", "ema-0.99"):
        one, two = (load_file(run / "checkpoints" / last / f"{name}.safetensors") for run in (a, b))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one), name
    assert losses(a) == losses(b)
    pictures = [
        Pipeline(load_model(run))("a red circle", num_inference_steps=3, seed=5).tensors for run in (a, b)
    ]
    assert torch.equal(*pictures)


@pytest.mark.slow
def test_a_run_writes_a_model_a_log_and_two_checkpoints(whole: Path) -> None:
    assert [step for step, _, _ in losses(whole)] == [2, 4, 6]
    line = json.loads((whole / "log.jsonl").read_text().splitlines()[-1])
    assert line["gradient_norm"] > 0 and line["images_per_second"] > 0 and len(line["loss_quarters"]) == 4
    assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == ["step-0000004", "step-0000006"]
    training = read_config(whole)["training"]
    assert training["step"] == 6 and training["data"] == "shapes" and training["log"]["step"] == 6
    ema = load_file(whole / "checkpoints" / "step-0000006" / "ema-0.9.safetensors")
    model = load_model(whole)
    assert all(torch.equal(p, ema[k]) for k, p in model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("timesteps", ["uniform", "loss_second_moment"])
def test_resume_is_exact(tmp_path: Path, timesteps: str) -> None:
    train_base(settings(tmp_path / "whole", practice=TimestepConfig(timesteps)))
    # the same run, stopped after its checkpoint of step 4 (the rate's schedule is that of the whole run)
    out = tmp_path / "parts"

    class Stop(Exception):
        pass

    def stop(model: Model, path: Path, captions: Sequence[str]) -> None:
        assert captions == PREVIEW_CAPTIONS
        raise Stop

    with pytest.raises(Stop):
        train_base(settings(out, practice=TimestepConfig(timesteps), train={"sample_every": 5}), stop)
    assert losses(out)[-1][0] == 4
    train_base(settings(out, practice=TimestepConfig(timesteps), resume=True))
    assert_same_run(tmp_path / "whole", out)


@pytest.mark.slow
def test_resume_after_kill_is_exact(tmp_path: Path, threads: None) -> None:
    def flags(name: str) -> list[str]:
        rest = "--preset tiny --steps 40 --batch-size 2 --dtype float32 --ema 0.9 0.99"
        rest += " --save-every 10 --log-every 10 --sample-every 1000"
        return ["--out", str(tmp_path / name), *rest.split()]

    torch.set_num_threads(1)  # as the process has that is killed
    assert call(script, *flags("whole")) == 0
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts/train_base.py"), *flags("killed")],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "killed/checkpoints/step-0000010").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/checkpoints/step-0000040").exists(), "it was too quick to be killed"
    assert call(script, *flags("killed"), "--resume") == 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.slow
def test_accumulation_changes_nothing_but_memory(whole: Path, tmp_path: Path) -> None:
    """Parts of a batch have the noise and the dropout of the whole, so only the rounding is another."""
    out = tmp_path / "run"
    train_base(settings(out, train={"accumulate": 2, "gradient_checkpointing": True}))
    for (_, a, _), (_, b, _) in zip(losses(whole), losses(out), strict=True):
        assert a == pytest.approx(b, rel=1e-3)  # Muon's bfloat16 magnifies it
    assert losses(whole)[0][1] == pytest.approx(losses(out)[0][1], rel=1e-5)


@pytest.mark.slow
def test_a_step_ends_with_no_batch_to_be_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next batch is begun where this one is taken, and the forward pass waits for it."""
    step, backward, free = Stepper.step, torch.Tensor.backward, []

    def watched(*args: Any, **kwargs: Any) -> Any:
        outcome = step(*args, **kwargs)
        free.append(GIL_FREE.is_set())
        return outcome

    def beside(*args: Any, **kwargs: Any) -> Any:
        free.append(GIL_FREE.is_set())
        return backward(*args, **kwargs)

    monkeypatch.setattr(Stepper, "step", watched)
    monkeypatch.setattr(torch.Tensor, "backward", beside)
    train_base(settings(tmp_path / "run"))
    assert free == [True, False] * CONFIG.steps


@pytest.mark.slow
def test_training_learns(tmp_path: Path) -> None:
    """Sixty steps on one-object scenes halve the loss of an untrained network."""
    train = {"steps": 60, "batch_size": 16, "log_every": 10, "save_every": 60, "dtype": "bfloat16"}
    train_base(settings(tmp_path / "run", data="shapes:one", train=train))
    curve = [loss for _, loss, _ in losses(tmp_path / "run")]
    assert curve[-1] < 0.6 * curve[0]


def test_captions_by_tokens_alone(text_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs: list[Conditioning] = []

    def unet(x: torch.Tensor, t: torch.Tensor, cond: Conditioning, inner: bool = False) -> torch.Tensor:
        inputs.append(cond)
        return torch.cat([x, x], dim=1)

    monkeypatch.setattr(text_model.unet, "forward", unet)
    batch = {"image": torch.zeros(400, 3, 8, 8), "caption": [CAPTIONS[0]] * 400}
    for share in (0.0, 0.25):
        task = DiffusionObjective(null_captions=0.0, token_captions=share)
        task(text_model, batch, torch.zeros(400, dtype=torch.int64), RowRng(0, range(400)))
    whole, part = inputs
    assert whole.vector is not None and part.vector is not None
    without = (part.vector == 0).all(dim=1)
    assert 70 < int(without.sum()) < 130
    assert torch.equal(part.vector[~without], whole.vector[~without])
    assert part.tokens is not None and whole.tokens is not None and torch.equal(part.tokens, whole.tokens)


@pytest.mark.slow
def test_null_captions_reach_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def spy(
        model: Model, batch: dict[str, Any], dropped: torch.Tensor, *kept: Any
    ) -> dict[str, torch.Tensor]:
        seen.extend(dropped.tolist())
        inputs = caption_inputs(model, batch, dropped, *kept)
        assert torch.equal(inputs["mask"].any(dim=1), ~dropped)
        return inputs

    monkeypatch.setattr("glide.training.objectives.caption_inputs", spy)
    train = {"steps": 50, "batch_size": 8, "save_every": 50, "log_every": 50}
    train_base(settings(tmp_path / "run", null_captions=0.2, validation_batches=0, train=train))
    assert len(seen) >= 400 and 0.14 < seen.count(True) / len(seen) < 0.26


@pytest.mark.slow
def test_class_folders_train_a_class_model_with_a_null_class(tmp_path: Path) -> None:
    from PIL import Image

    for i, name in enumerate(("apple", "pear")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for j in range(3):
            Image.new("RGB", (20, 24), (90 * i, 40 * j, 10)).save(tmp_path / "data" / name / f"{j}.png")
    train = {"steps": 2, "save_every": 2}
    train_base(settings(tmp_path / "run", data=str(tmp_path / "data"), train=train))
    model = load_model(tmp_path / "run")
    assert model.config.class_names == ("apple", "pear") and model.config.null_class and model.text is None
    fine = settings(tmp_path / "fine", data=str(tmp_path / "data"), init=str(tmp_path / "run"), train=train)
    train_base(dataclasses.replace(fine, preset=None))
    assert load_model(tmp_path / "fine").config.null_class


@pytest.mark.slow
def test_captioned_pictures_are_watched_with_their_own_captions(tmp_path: Path) -> None:
    from PIL import Image

    from toolkit.pipelines.training_preview import sample_grid

    (tmp_path / "data").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16), (60 * i, 0, 0)).save(tmp_path / "data" / f"{i}.png")
        (tmp_path / "data" / f"{i}.txt").write_text(f"shade number {i}")
    seen: list[Sequence[str]] = []

    def watch(model: Model, path: Path, captions: Sequence[str]) -> None:
        seen.append(captions)
        sample_grid(model, path, captions[:1])

    train_base(
        settings(tmp_path / "run", data=str(tmp_path / "data"), train={"steps": 2, "sample_every": 2}), watch
    )
    assert sorted(seen[0]) == [f"shade number {i}" for i in range(4)]
    assert (tmp_path / "run/samples/0000002.png").exists()


@pytest.mark.slow
def test_an_unconditional_model_ignores_captions(tmp_path: Path) -> None:
    train_base(settings(tmp_path / "run", unconditional=True, train={"steps": 1}))
    config = load_model(tmp_path / "run").config
    assert config.text is None and config.num_classes == 0
    assert Pipeline(load_model(tmp_path / "run"))(num_inference_steps=2).tensors.shape == (1, 3, 16, 16)


def test_refusals(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint in"):
        train_base(settings(tmp_path / "new", resume=True))
    with pytest.raises(InputError, match="already holds a run"):
        train_base(settings(whole))
    with pytest.raises(InputError, match=r"null-captions 1\.5"):
        train_base(settings(tmp_path / "x", null_captions=1.5))
    with pytest.raises(InputError, match=r"token-captions 1"):
        train_base(settings(tmp_path / "x", token_captions=1.0))
    with pytest.raises(InputError, match="--preset 'nope'"):
        train_base(dataclasses.replace(settings(tmp_path / "x"), preset="nope"))
    with pytest.raises(InputError, match="no model"):
        train_base(settings(tmp_path / "x", init="nowhere"))
    assert not (tmp_path / "x").exists()
