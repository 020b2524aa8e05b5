"""Settings shared by all training commands. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from glide.training.trackers import TrackerName
from glide.utils.dtype import AUTO, DTYPES, DType, check_dtype, find_dtype
from glide.utils.errors import InputError
from glide.utils.ranges import check_numbers

if TYPE_CHECKING:
    from glide.training.distributed import Processes


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and a linear decay to zero in the last part of the run."""

    lr: float = 1e-4
    muon_lr: float = 0.0
    """Above 0: train the matrices and convolutions inside the network by Muon at this rate."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 100
    """Warm-up steps, over which the learning rate rises from zero."""
    cooldown: float = 0.0
    """Share of the run, at its end, over which the learning rate falls linearly to zero."""
    clip: float = 1.0
    """Gradient clipping: largest norm of the whole gradient; 0 for none."""

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rate at `step` (from 0) of `steps`."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = (steps - step) / (self.cooldown * steps) if self.cooldown else 1.0
        return min(up, down, 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run, besides the model, the data and the loss."""

    steps: int = 100_000
    batch_size: int = 64
    """Pictures of a step, over all processes together."""
    accumulate: int = 1
    """Gradient accumulation: the parts in which a process computes its share of a batch, to save memory."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the networks first (torch.compile): a minute or two, then a step takes a quarter to a third less time."""
    shard: bool = False
    """(several processes) Shard every weight over the processes (FSDP2), for models that do not fit; without it, each
    process keeps all weights (DDP)."""
    optim: Annotated[OptimConfig, tyro.conf.arg(name="")] = field(default_factory=OptimConfig)
    ema: tuple[float, ...] = (0.999,)
    """Decays of the weight averages (EMA); the first one is saved as the model."""
    ema_snapshots: tuple[float, ...] = ()
    """Relative widths of power-function averages whose snapshots are kept in averages/, to choose the length of an
    average after training by scripts/posthoc_ema.py (post-hoc EMA, 2312.02696, which keeps 0.05 0.1)."""
    snapshot_every: int = 1000
    """(ema-snapshots) Steps between two snapshots; a few dozen in all are enough."""
    dtype: DType = AUTO
    """Type that the network computes in. float16 scales the loss; weights stay float32."""
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    evaluate_every: int = 0
    """Above 0: evaluate the averaged model every so many steps and at the end (evaluation.jsonl, evaluation.png)."""
    save_every: int = 1000
    keep: int = 2
    """Number of newest checkpoints kept."""
    keep_every: int = 0
    """Above 0: also keep all checkpoints at multiples of so many steps."""
    max_skipped: int = 10
    """The run stops after so many skipped steps in a row, whose loss or gradient was not finite."""
    track: tuple[TrackerName, ...] = ()
    """Trackers besides log.jsonl: tensorboard, wandb, trackio (each an extra)."""
    dry_run: bool = False
    """Build everything, do two steps, report the memory and time of the run, and write nothing."""

    def check(self) -> None:
        """InputError for numbers out of range."""
        check_dtype(self.dtype)
        if self.compile and self.shard:
            raise InputError("got both --compile and --shard, expected one or the other: leave one out.")
        check_numbers(self)
        if not self.ema:
            raise InputError("got --ema without a decay, expected at least one: leave it out for 0.999")

    def settled(self, processes: Processes, checkpoint: Path | None = None, half: bool = True) -> TrainConfig:
        """A copy with a type in place of "auto", the same one on all processes, which all call it.

        It is the type of the run that resumes from `checkpoint`, or else the fast one of the main process's device.
        half: False if float16 is not possible.
        """
        dtype = self.dtype
        if processes.main:
            before = dtype_of_run(checkpoint) if checkpoint is not None and dtype == AUTO else None
            dtype = str(find_dtype(before or dtype, processes.device)).removeprefix("torch.")
            if dtype == "float16" and self.dtype == AUTO and not half:
                dtype = "float32"
        return replace(self, dtype=DTYPES[processes.broadcast(DTYPES.index(dtype) if processes.main else 0)])


def dtype_of_run(checkpoint: Path) -> str | None:
    """The type that a run computed in, from its checkpoint; None if that does not name it."""
    from glide.training.checkpoints import read_manifest  # with torch

    settings = read_manifest(checkpoint).get("settings")
    dtype = settings.get("train.dtype") if isinstance(settings, dict) else None
    return dtype if dtype in DTYPES else None
