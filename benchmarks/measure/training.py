"""A training step of the embedded model: `glide.training.fit.fit` itself, timed from one batch to the next."""

from __future__ import annotations

import io
import itertools
import tempfile
from collections.abc import Callable, Generator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from statistics import median

import torch

from benchmarks.measure.machine import Clock, Memory, begin, bytes_of
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Measured, Spent
from benchmarks.measure.work import counted
from glide.checkpoints.load import load_model
from glide.data.datasets import Batch, Dataset, on_device, open_data
from glide.data.masked import Masked
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.timestep_sampling import UniformTimesteps
from glide.networks.model import Model
from glide.training.config import OptimConfig, TrainConfig
from glide.training.fit import fit
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.utils.dtype import AUTO, find_dtype

OPTIM = OptimConfig(lr=1e-3, muon_lr=0.02, weight_decay=0.01)
"""As the embedded model was trained (its config.json); the figures do not depend on the numbers."""
BATCHES = 4  # drawn beforehand, and used in turn: drawing scenes is not part of what is measured
WARM_UP = 2
TURNS = 3  # of the default and of float32


class Training:
    """A model with all that a step of its training needs."""

    def __init__(self, plan: Plan, dtype: str) -> None:
        self.plan, self.dtype = plan, dtype
        self.device = begin(plan)
        self.memory = Memory(self.device)
        self.model: Model = load_model(plan.model, self.device)
        config = self.model.config
        data: Dataset = open_data("shapes", config.unet.image_size, seed=plan.seed)
        data = Masked(data, plan.seed) if config.inpaint else data
        self.batches = [data.batch(step, plan.train_batch) for step in range(BATCHES)]
        self.task = DiffusionObjective(LossConfig(prediction=config.process.prediction))
        self.memory.loaded()

    def fit(self, batches: Callable[[int], Generator[Batch, None, None]], steps: int) -> None:
        """So many steps, without what it says and in a folder that is gone afterwards."""
        config = TrainConfig(
            steps=steps,
            batch_size=self.plan.train_batch,
            optim=OPTIM,
            dtype=self.dtype,
            seed=self.plan.seed,
            save_every=steps,
        )
        timesteps = UniformTimesteps(len(self.model.process))
        with (
            tempfile.TemporaryDirectory() as place,
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            fit(self.model, self.task, batches, timesteps, config, Path(place), save=lambda *_: None)

    def seconds(self, steps: int) -> list[float]:
        """Of so many steps one after the other, after some that warm up."""
        clock = Clock(self.device)

        def batches(start: int) -> Generator[Batch, None, None]:
            for batch in itertools.cycle(self.batches):
                clock.mark()  # the step before is done, and the next begins
                yield batch

        self.fit(batches, steps + WARM_UP + 2)
        return clock.seconds()[WARM_UP:-1]  # the last one wrote a checkpoint

    def work(self) -> int:
        """FLOP of the network's way forward and back in one step; the optimizer's are not counted."""
        batch, size = on_device(self.batches[0], self.device), self.plan.train_batch
        t = torch.arange(size, device=self.device) % len(self.model.process)
        draws = RowRng(self.plan.seed, range(size))

        def step() -> None:
            dtype = getattr(torch, self.dtype)
            with torch.autocast(self.device.type, dtype, enabled=self.dtype != "float32"):
                terms = self.task(self.model, batch, t, draws)
            terms["loss"].sum().backward()

        self.model.train().requires_grad_(True)
        return counted(step)


def train_steps(plan: Plan, dtype: str) -> list[Found]:
    """Steps of training, under autocast where the type is not float32."""
    training = Training(plan, dtype)
    seconds = median(training.seconds(plan.repeats))
    peak = training.memory.done()
    return [
        Measured(
            "train",
            "here",
            dtype,
            plan.train_batch,
            seconds,
            training.work(),
            bytes_of([training.model]),
            peak,
        )
    ]


def train_default(plan: Plan) -> list[Found]:
    """Time a step with the default `--dtype auto` beside one in float32, in turn."""
    both = [Training(plan, name) for name in (AUTO, "float32")]
    turns = [[run.seconds(plan.repeats) for run in both] for _ in range(TURNS)]
    default, plain = (median(itertools.chain(*(turn[i] for turn in turns))) for i in range(2))
    name = str(find_dtype(AUTO, both[0].device)).removeprefix("torch.")
    what = f"training step, --dtype auto ({name}), batch {plan.train_batch}"
    return [Spent(what, default, f"{default / plain:.2f} times that of --dtype float32, {plain:.3g} s")]
