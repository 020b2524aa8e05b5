"""train_*.py --compile: the same training but for rounding; pictures and checkpoints as without."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from glide.networks import compile as module
from glide.networks.cpu import fused
from glide.networks.layers import Dropout
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS
from guidance.classifier.network import NoisyClassifier
from guidance.clip.config import CLIPS
from guidance.clip.network import NoisyClip
from support.training_settings import settings

# of PyTorch's own, about parts of itself
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{what}")
    for what in (
        ":DeprecationWarning",
        "Guards may run slower:RuntimeWarning",
        ":FutureWarning",
        "The .grad attribute of a Tensor that is not a leaf",
    )
]


def plain(out: Path, **changes: Any) -> TrainBase:
    """Without dropout, which breaks the graph into many small ones that take long to compile; of one level, as each
    layer is traced."""
    one_level = {"unet.channel_mult": (1,), "unet.attention": (1,)}
    run = settings(out, train={"steps": 4, "sample_every": 2, **changes}, model=one_level)
    return replace(run, dropout=0.0)


@pytest.mark.slow
def test_the_same_training_but_for_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as by torch.compile; no C++ is made of it, which takes minutes."""
    traced: list[torch.nn.Module] = []
    compile_module = torch.nn.Module.compile

    def compile_without_compiler(self: torch.nn.Module, **options: Any) -> None:
        traced.append(self)
        compile_module(self, backend="aot_eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_compiler)
    monkeypatch.setattr(module, "check_compiler", lambda model: None)
    monkeypatch.setattr(
        fused, "library", lambda: None
    )  # what is compiled has PyTorch's norms, other roundings
    found = []
    for compiles in (False, True):
        out = tmp_path / str(compiles)
        train_base(plain(out, compile=compiles))
        log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
        held_out = [json.loads(line) for line in (out / "validation.jsonl").read_text().splitlines()]
        found.append((log[-1]["loss"], held_out[-1]["validation_loss"], load_file(out / "model.safetensors")))
    (loss, unseen, weights), (other_loss, other_unseen, others) = found
    assert [type(part).__name__ for part in traced] == ["TextEncoder", "UNet"]
    assert other_loss == pytest.approx(loss, rel=1e-4) and other_unseen == pytest.approx(unseen, rel=1e-4)
    assert weights.keys() == others.keys()
    distance, length = (
        sum(float(w.square().sum()) for w in vectors) ** 0.5
        for vectors in ([others[k] - w for k, w in weights.items()], weights.values())
    )
    assert distance < 1e-3 * length, "Adam and Muon make more of rounding than it is, but not that much"


def test_compiled_modules(text_model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks that a task calls; of a classifier, whose encoder is never called by itself, the whole."""
    compiled: list[str] = []
    monkeypatch.setattr(module, "check_compiler", lambda model: None)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(type(self).__name__))
    for model in (text_model, NoisyClassifier(CLASSIFIERS["tiny"]), NoisyClip(CLIPS["tiny"])):
        module.compile_for_training(model)
    assert compiled == ["TextEncoder", "UNet", "NoisyClassifier", "TextEncoder", "ImageEncoder"]


def test_dropout_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its seed is another one at each step: compiled, each step would be compiled anew."""
    monkeypatch.setattr(module, "check_compiler", lambda model: None)
    layer = Dropout(0.5)
    net = torch.nn.Sequential(layer)
    module.compile_for_training(net)
    assert "forward" in vars(layer)
    layer.rows = (1, 0)
    torch.testing.assert_close(layer(torch.ones(1, 1, 4, 4)), Dropout.forward(layer, torch.ones(1, 1, 4, 4)))


def test_compilation_is_refused_with_incompatible_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="both --compile and --shard"):
        train_base(plain(tmp_path / "a", compile=True, shard=True))
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(InputError, match="--compile without a C\\+\\+ compiler"):
        train_base(plain(tmp_path / "b", compile=True))
