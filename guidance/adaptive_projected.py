"""Adaptive projected guidance: contrast without its oversaturation (2410.02416).

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from glide.utils.numbers import Range
from guidance.base import Guidance, Reference
from guidance.classifier_free import NEGATIVE, build_contrast
from guidance.contrast import Contrast
from guidance.entry import GuidanceEntry, Interval, Option

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.diffusion.denoiser import Prediction
    from guidance.context import GuidanceInputs


@dataclass(frozen=True, eq=False)
class AdaptiveProjected(Guidance):
    """Guides by the part of a contrast's difference d that is orthogonal to the prediction.

    In order: the reverse momentum d <- d + momentum * (the last d); the threshold d <- d * min(1, norm / |d|); and
    x0 += weight * (d_orthogonal + eta * d_parallel), as seen from the contrast's main prediction, because the part
    along the picture is mostly what saturates it. eta 1, momentum 0 and no norm is the contrast itself.

    norm: of all C*H*W values of a picture; None is no threshold. momentum: 0 or below; each run starts without any.
    The paper's are below 0. They make the prediction swing from step to step, which a multistep solver extrapolates.
    """

    contrast: Contrast
    eta: float = 0.0
    norm: float | None = None
    momentum: float = 0.0
    _average: list[Tensor] = field(default_factory=list, init=False, repr=False)  # of this run: none, or one

    @property
    def scale(self) -> float:  # type: ignore[override]
        return self.contrast.scale

    @property
    def interval(self) -> tuple[int, int]:  # type: ignore[override]
        return self.contrast.interval

    @property
    def references(self) -> tuple[Conditioning | Reference, ...]:
        return self.contrast.references

    def start(self) -> AdaptiveProjected:
        return replace(self)

    def with_scale(self, scale: float) -> AdaptiveProjected:
        found = copy(self)
        object.__setattr__(found, "contrast", self.contrast.with_scale(scale))
        return found

    def active(self, t: int) -> bool:
        return self.contrast.active(t)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        from glide.diffusion.x0_transforms import per_image

        difference = self.contrast.difference(main, references)
        for average in self._average:
            difference = difference + self.momentum * average
        self._average[:] = [difference]
        return self.contrast.weight * per_image(self._projected, difference, main.x0)

    def _projected(self, difference: Tensor, x0: Tensor) -> Tensor:
        """Of one picture, [C,H,W]."""
        d = (
            difference
            if self.norm is None
            else difference * (self.norm / difference.norm().clamp(min=self.norm))
        )
        parallel = (d * x0).sum() / x0.square().sum().clamp(min=1e-12) * x0
        return d - (1.0 - self.eta) * parallel


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> AdaptiveProjected:
    """Build it on classifier-free guidance."""
    contrast, options = build_contrast(inputs, scale, interval), inputs.options
    return AdaptiveProjected(contrast, options.apg_eta, options.apg_norm, options.apg_momentum)


ENTRY = GuidanceEntry(
    "apg",
    "the same as cfg, projected so that it saturates less; scale 1 is none",
    build,
    scale=3.0,
    neutral=1.0,
    options=(
        NEGATIVE,
        Option(
            "apg_eta",
            float,
            0.0,
            "SHARE",
            "How much is kept of the part along the picture itself, which saturates: 0 to 1, where 1 is as cfg.",
            Range(0.0, 1e6),
        ),
        Option(
            "apg_norm",
            float | None,
            None,
            "NORM",
            "Largest norm of the difference that is scaled up. By default none.",
            Range(0.0, 1e6, above=True, do="leave it out for none"),
        ),
        Option(
            "apg_momentum",
            float,
            0.0,
            "NUMBER",
            "Of the running average of that difference, -1 to 1; below 0 it stresses what is new, which solvers that "
            "look back magnify: for ddim and the like.",
            Range(-1.0, 1.0, above=True, below=True),
        ),
    ),
)
