"""`--dtype auto`: what a device multiplies fast, decided once; the cost of another type is said; records name it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glide.networks.model import Model
from glide.training.config import OptimConfig, TrainConfig
from glide.training.distributed import Processes
from glide.training.muon import orthogonalize
from glide.training.optim import Optimizer
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils import dtype as dtypes
from glide.utils.dtype import DTYPES, cost, fast_dtype, find_dtype, multiplies_fast
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from guidance.classifier.train_flags import TrainClassifier
from guidance.clip.train_flags import TrainClip
from support.sample_script import QUICK, call
from toolkit.commands.binding_flags import Bind
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.evaluate_inpainting_flags import EvaluateInpainting
from toolkit.commands.evaluate_upsampler_flags import EvaluateUpsampler
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.commands.inpaint_flags import Inpaint
from toolkit.commands.interpolate_flags import Interpolate
from toolkit.commands.sample_flags import Sample
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.commands.upsample_flags import Upsample
from toolkit.pipelines.pipeline import Pipeline
from upsampler.train_flags import TrainUpsampler

CPU = torch.device("cpu")
HALF = torch.bfloat16


def fast(monkeypatch: pytest.MonkeyPatch, *of: torch.dtype) -> None:
    """Devices that multiply these fast, and float32."""
    monkeypatch.setattr(dtypes, "multiplies_fast", lambda device, dtype: dtype in (torch.float32, *of))


def processor(monkeypatch: pytest.MonkeyPatch, kernels: bool, units: bool | None, times: float = 5.2) -> None:
    """A CPU of which PyTorch says this, and whose bfloat16 takes so many times as long as its float32."""
    multiplies_fast.cache_clear()
    monkeypatch.setattr(dtypes, "multiplies_fast", multiplies_fast)
    monkeypatch.setattr(dtypes, "_has_kernels", lambda dtype: kernels)
    monkeypatch.setattr(dtypes, "_has_units", lambda dtype: units)
    monkeypatch.setattr(dtypes, "cost", lambda dtype: times)


@pytest.mark.parametrize(
    ("kernels", "units", "times", "expected"),
    [
        (False, None, 0.1, torch.float32),  # oneDNN does not take it: the rest is not asked
        (True, False, 0.1, torch.float32),
        (True, True, 9.0, HALF),
        (True, None, 0.5, HALF),  # nobody knows: timed
        (True, None, 0.9, torch.float32),
        (True, None, 2.7, torch.float32),
    ],
)
def test_a_processor_is_queried_and_timed_in_case_of_doubt(
    kernels: bool,
    units: bool | None,
    times: float,
    expected: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    processor(monkeypatch, kernels, units, times)
    try:
        assert fast_dtype(CPU) == find_dtype("auto", CPU) == expected
    finally:
        multiplies_fast.cache_clear()


def test_it_is_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, True, None)
    asked: list[torch.dtype] = []
    monkeypatch.setattr(dtypes, "cost", lambda dtype: asked.append(dtype) or 0.5)
    try:
        assert [fast_dtype(CPU) for _ in range(3)] == [HALF] * 3 and asked == [HALF]
    finally:
        multiplies_fast.cache_clear()


def test_timing_changes_neither_random_numbers_nor_threads(threads: None) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert cost.__wrapped__(HALF) > 0
    assert torch.equal(torch.rand(3), expected) and torch.get_num_threads() == 2


def test_a_type_without_units_is_done_with_one_sentence_of_its_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dtypes, "cost", lambda dtype: 6.8)
    dtypes.warn_once.cache_clear()
    with pytest.warns(UserWarning, match="about 7 times as slow as float32 on this processor") as said:
        for _ in range(3):  # a model's loading, its pipeline, a second stage
            assert find_dtype("bfloat16", CPU) == HALF
    assert len(said) == 1
    fast(monkeypatch, HALF)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_dtype("torch.bfloat16", CPU) == HALF and find_dtype(torch.float32, CPU) == torch.float32


def test_another_name_is_refused() -> None:
    with pytest.raises(InputError, match="expected auto or float32 or bfloat16 or float16"):
        find_dtype("float8", CPU)


@pytest.mark.parametrize("of", [(), (HALF,)], ids=["without units", "with units"])
def test_pipelines_and_recipes_name_the_type(
    of: tuple[torch.dtype, ...], text_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch, *of)
    pipe = Pipeline(text_model)
    assert pipe.dtype == (of or (torch.float32,))[0]
    [recipe] = pipe("a red circle", num_inference_steps=2, seed=0).recipes
    assert recipe["dtype"] == str(pipe.dtype).removeprefix("torch.")


@pytest.mark.slow
def test_like_takes_the_type_of_the_recipe(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--model", text_folder, "--prompt", "a red circle", "--out", tmp_path, *QUICK)
    assert call(*flags) == 0
    fast(monkeypatch, HALF)
    assert call("--trust-recipe", "--like", tmp_path / "00000.png", "--out", tmp_path) == 0
    assert call(*flags) == 0
    recipes = [read_recipe(tmp_path / f"{number:05d}.png") for number in range(3)]
    assert [recipe["dtype"] for recipe in recipes] == ["float32", "float32", "bfloat16"]


@pytest.mark.slow
def test_a_training_records_its_type_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = TrainConfig(steps=1, batch_size=2, sample_every=10)
    args = TrainBase(tmp_path / "run", "shapes:one", "tiny", train=small, device="cpu", validation_batches=0)
    train_base(args)
    record = json.loads((args.out / "config.json").read_text())["training"]
    assert record["train"]["dtype"] == "float32"
    fast(monkeypatch, HALF)  # taken up on another machine
    train_base(replace(args, resume=True, train=replace(small, steps=2)))
    record = json.loads((args.out / "config.json").read_text())["training"]
    assert record["train"]["dtype"] == "float32" and record["step"] == 2


def test_the_processes_of_a_training_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the type and on Muon's, whatever their own machines are good at: their weights must stay the same."""

    class Second(Processes):
        def broadcast(self, value: int) -> int:
            assert value == 0
            return DTYPES.index("bfloat16")  # what the first one says: 1, also for yes

    other = Second(1, 2)
    assert TrainConfig().settled(other).dtype == "bfloat16"
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3))
    _, muon = Optimizer(model, OptimConfig(muon_lr=0.1), 1, other).parts
    assert muon.dtype == HALF  # type: ignore[attr-defined]


@pytest.mark.parametrize("of", [(), (HALF,)], ids=["without units", "with units"])
def test_muon_multiplies_in_the_fast_type(
    of: tuple[torch.dtype, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast(monkeypatch, *of)
    model = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3))
    _, muon = Optimizer(model, OptimConfig(muon_lr=0.1), 1).parts
    assert muon.dtype == (of or (torch.float32,))[0]  # type: ignore[attr-defined]
    g = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0))
    exact, rounded = orthogonalize(g), orthogonalize(g, dtype=HALF)
    assert exact.dtype == rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.1


def test_every_command_defaults_to_auto() -> None:
    drawing = (Sample, Inpaint, Interpolate, Upsample)
    measuring = (Evaluate, EvaluateInpainting, EvaluateUpsampler, Sweep, SolverSweep, Bind)
    for command in (*drawing, *measuring, TrainConfig):
        assert command.__dataclass_fields__["dtype"].default == "auto", command
    for trained in (TrainBase, TrainUpsampler, TrainClassifier, TrainClip):
        assert trained(Path("run")).train.dtype == "auto"
