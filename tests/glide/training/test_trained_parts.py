"""Runs that train a part of a model, and begin with one that inpaints."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, read_config
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.training.config import OptimConfig
from glide.training.optim import Optimizer
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase, TrainedPart
from glide.training.trained_parts import train_only
from glide.utils.errors import InputError
from support.models import tiny_unet
from support.training_settings import settings


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model, of two steps."""
    out = tmp_path_factory.mktemp("begun") / "run"
    train_base(settings(out, train={"steps": 2}))
    return out


def fine(out: Path, begun: Path, part: TrainedPart, **changes: object) -> TrainBase:
    return settings(out, init=str(begun), train_part=part, **changes)


def changed(begun: Path, out: Path) -> set[str]:
    """Names of the weights of the averaged model that are others than those of the first run, bit for bit."""
    one, other = (load_file(run / "model.safetensors") for run in (begun, out))
    assert one.keys() == other.keys()
    return {name for name in one if not torch.equal(one[name], other[name])}


def test_parts_learn_and_the_rest_stays_bit_for_bit(begun: Path, tmp_path: Path) -> None:
    names = set(load_file(begun / "model.safetensors"))
    text = {name for name in names if name.startswith(("text.", "text_vector."))}
    attention = {name for name in names if ".attn." in name or "middle_in.attn." in name}
    assert text and attention and not text & attention
    expected: dict[TrainedPart, set[str]] = {"text": text, "unet": names - text, "attention": attention}
    for part, learned in expected.items():
        out = tmp_path / part
        train_base(fine(out, begun, part))
        assert changed(begun, out) <= learned, part
        # biases of keys have no gradient, and tokens that no caption holds none either
        assert len(changed(begun, out)) > 0.8 * len(learned), part
        state = torch.load(out / "checkpoints/step-0000006/state.pt", weights_only=True)
        assert sum(len(one["state"]) for one in state["optimizer"]) <= len(learned)
        assert read_config(out)["training"]["train_part"] == part


def test_a_part_resumes_exactly_and_cannot_change(begun: Path, tmp_path: Path) -> None:
    train_base(fine(tmp_path / "whole", begun, "attention", train={"keep": 9}))
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for step in (4, 6):
        shutil.rmtree(tmp_path / f"cut/checkpoints/step-{step:07d}")
    with pytest.raises(InputError, match="--train-part text: this run has attention"):
        train_base(fine(tmp_path / "cut", begun, "text", resume=True))
    train_base(fine(tmp_path / "cut", begun, "attention", resume=True))
    for name in ("model", "ema-0.9", "ema-0.99"):
        path = f"checkpoints/step-0000006/{name}.safetensors"
        one, other = (load_file(tmp_path / run / path) for run in ("whole", "cut"))
        assert all(torch.equal(one[key], other[key]) for key in one), name


def test_parts_that_are_not_there_are_refused(begun: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="--train text for a model that starts from scratch, expected --init"
    ):
        train_base(settings(tmp_path / "a", train_part="text"))
    with pytest.raises(InputError, match="neither captions nor classes"):
        train_only(Model(ModelConfig(tiny_unet(6))), "text")
    with pytest.raises(InputError, match=r"would leave .* untrained"):
        train_base(
            TrainBase(
                out=tmp_path / "b",
                init=str(begun),
                train_part="text",
                model={"unet.coordinates": 2},
                train=settings(tmp_path).train,
            )
        )
    assert not (tmp_path / "b").exists()


def test_frozen_weights_have_no_optimizer_state() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    model[0].requires_grad_(False)
    for muon in (0.0, 0.01):
        optimizer = Optimizer(model, OptimConfig(muon_lr=muon), 10)
        assert {id(p) for p in optimizer.params} == {id(p) for p in model[1].parameters()}


def test_a_run_inpaints_only_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_base(settings(tmp_path / "inpaints", inpaint=True, train={"steps": 2}))
    assert load_model(tmp_path / "inpaints").config.inpaint
    capsys.readouterr()
    train_base(settings(tmp_path / "draws", init=str(tmp_path / "inpaints"), train={"steps": 2}))
    assert (
        "also inpaints, and this run does not: --inpaint of a training keeps that" in capsys.readouterr().out
    )
    assert not load_model(tmp_path / "draws").config.inpaint
    train_base(settings(tmp_path / "both", init=str(tmp_path / "inpaints"), inpaint=True, train={"steps": 2}))
    assert load_model(tmp_path / "both").config.inpaint
