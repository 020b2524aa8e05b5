"""Adaptive projected guidance: contrast without its oversaturation (2410.02416).

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from glide.diffusion.x0_transforms import per_image
from guidance.base import Guidance, Reference
from guidance.contrast import Contrast


@dataclass(frozen=True, eq=False)
class AdaptiveProjected(Guidance):
    """Of a contrast's difference d, what is orthogonal to the prediction.

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

    def active(self, t: int) -> bool:
        return self.contrast.active(t)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
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
