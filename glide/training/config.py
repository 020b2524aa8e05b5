"""The settings that every training shares. Imports no torch, so that `--help` reads them quickly."""

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
    """AdamW with warm-up and a linear decay to zero over the last part of the run."""

    lr: float = 1e-4
    muon_lr: float = 0.0
    """Over 0: the matrices and convolutions inside the network are trained by Muon at this rate."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 100
    """Steps over which the rate rises from zero."""
    cooldown: float = 0.0
    """Share of the run, at its end, over which the rate falls linearly to zero."""
    clip: float = 1.0
    """Largest norm of the whole gradient; 0 for no clipping."""

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rates at `step` (from 0) of `steps`."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = (steps - step) / (self.cooldown * steps) if self.cooldown else 1.0
        return min(up, down, 1.0)


@dataclass(frozen=True)
class TrainConfig:
    """The run, besides the model, the data and the loss."""

    steps: int = 100_000
    batch_size: int = 64
    """Pictures of a step, over all processes together."""
    accumulate: int = 1
    """Parts each process cuts its share of a batch into, one after the other, to save memory."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the networks first (torch.compile): a minute or two, then a step takes a quarter to a third less time."""
    shard: bool = False
    """(several processes) Each keeps a part of every weight (FSDP2), for models that do not fit; without, each has all
    of them (DDP)."""
    optim: Annotated[OptimConfig, tyro.conf.arg(name="")] = field(default_factory=OptimConfig)
    ema: tuple[float, ...] = (0.999,)
    """Decays of the weight averages; the first is the model that is saved."""
    ema_snapshots: tuple[float, ...] = ()
    """Relative widths of power-function averages whose snapshots are kept in averages/, to choose the length of an
    average after training by scripts/posthoc_ema.py (post-hoc EMA, 2312.02696, which keeps 0.05 0.1)."""
    snapshot_every: int = 1000
    """(ema-snapshots) Steps between two; some tens in all are enough."""
    dtype: DType = AUTO
    """float16 scales the loss; weights are float32 always."""
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    save_every: int = 1000
    keep: int = 2
    """Checkpoints kept, the newest."""
    keep_every: int = 0
    """Over 0: checkpoints of multiples of so many steps are kept for good."""
    max_skipped: int = 10
    """Steps in a row that may be skipped because their loss or gradient is not finite; then the run stops."""
    track: tuple[TrackerName, ...] = ()
    """Besides log.jsonl: tensorboard, wandb, trackio (each an extra)."""
    dry_run: bool = False
    """Build everything, do two steps, say what the run would take in memory and time, and write nothing."""

    def check(self) -> None:
        """InputError for numbers that no run can have."""
        check_dtype(self.dtype)
        if self.compile and self.shard:
            raise InputError("got both --compile and --shard, expected one or the other: leave one out.")
        check_numbers(self)
        if not self.ema:
            raise InputError("got --ema without a decay, expected at least one: leave it out for 0.999")

    def settled(self, processes: Processes, checkpoint: Path | None = None, half: bool = True) -> TrainConfig:
        """The same with a type in place of "auto", the same one on all processes, which all call it.

        It is that of the run that goes on from `checkpoint`, or else what is fast on the main process's device.
        half: False where float16 cannot be.
        """
        dtype = self.dtype
        if processes.main:
            before = dtype_of_run(checkpoint) if checkpoint is not None and dtype == AUTO else None
            dtype = str(find_dtype(before or dtype, processes.device)).removeprefix("torch.")
            if dtype == "float16" and self.dtype == AUTO and not half:
                dtype = "float32"
        return replace(self, dtype=DTYPES[processes.agree(DTYPES.index(dtype) if processes.main else 0)])


def dtype_of_run(checkpoint: Path) -> str | None:
    """The type that a run computed in, as its checkpoint says; None where it does not."""
    from glide.training.checkpoints import read_manifest  # with torch

    settings = read_manifest(checkpoint).get("settings")
    dtype = settings.get("train.dtype") if isinstance(settings, dict) else None
    return dtype if dtype in DTYPES else None
