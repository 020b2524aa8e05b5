"""Flags of the commands whose pictures the oracle judges: evaluations and sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glide.diffusion.samplers.registry import OWN
from glide.utils.dtype import AUTO, DType
from glide.utils.ranges import check_numbers
from guidance.options import DEFAULT_OPTIONS, Options
from toolkit.commands import shared_flags as shared
from toolkit.pipelines.settings import SamplingConfig, respacing_of

Kinds = tuple[Literal["one", "count", "pair"], ...]
"""Kinds of the built-in scenes: one thing, several of a kind, two things."""


@dataclass(frozen=True)
class JudgedPictures:
    """Flags for drawing pictures that the oracle judges."""

    model: str = "shapes"
    """A folder, an embedded name or a hub id."""
    steps: shared.Steps = None
    spacing: shared.Spacing = None
    sampler: shared.SamplerName = OWN
    eta: shared.Eta = 0.0
    deep_every: int = 1
    """Over 1: compute the deep levels of the network at every so many steps only (DeepCache)."""
    seed: int = 0
    """Seed of the captions or scenes, and of the noise."""
    batch_size: int = 32
    """Pictures in one sampling loop (rounded up to whole network calls). It changes no picture."""
    call_size: int | None = None
    """Pictures in one network call. By default as many as are drawn, up to 8 on a CPU and 32 on a GPU."""
    dtype: DType = AUTO
    device: shared.Device = "auto"
    overwrite: bool = False
    """Replace results that are already in the folder --out."""

    def check(self) -> None:
        """Check all numbers. InputError for one that is out of its range."""
        check_numbers(self)

    def settings(
        self, guidance: str | tuple[str, ...], scale: float | None = None, options: Options = DEFAULT_OPTIONS
    ) -> SamplingConfig:
        """The sampling settings with this guidance."""
        return SamplingConfig(
            self.sampler,
            respacing_of(self.steps),
            self.eta,
            guidance,
            scale,
            options,
            spacing=self.spacing,
            deep_every=self.deep_every,
        )


@dataclass(frozen=True)
class JudgedRun(JudgedPictures):
    """Flags for drawing captions that no training saw."""

    captions: int = 500
    """Number of held-out captions of the grammar."""
    kinds: Kinds = ("one", "count", "pair")
    """Kinds of built-in scenes that the captions describe."""


@dataclass(frozen=True)
class JudgedSweep(JudgedRun):
    """Flags of a sweep, which the oracle judges, or pictures of one's own."""

    data: str | None = None
    """Pictures of one's own, a folder or shards: each point draws --captions pictures of its captions or classes, which
    are compared with it. By default the built-in scenes, by the oracle."""
    judge: str = "efficientnet-lite0"
    """(data) The features in which pictures are compared, as --features of the evaluate_images command. With clip: or
    noisy-clip: the fit to the captions is measured, too."""
    held_out: float = 0.0
    """(data) Compare with this share alone, and draw its captions: a training with the same --held-out left it out."""
    real: int | None = None
    """(data) At most so many real pictures. By default all."""
    no_plot: bool = False
    """Write only the table; a plot needs matplotlib."""
    out: Path = Path("outputs/sweep")
