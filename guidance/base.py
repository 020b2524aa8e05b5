"""The interface of a guidance. `guidance.guided_denoiser` applies any number of them at once.

Imports nothing heavy, as every file with an `ENTRY` imports it. Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from guidance.spec import EVERYWHERE

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.diffusion.denoiser import Predict, Prediction

__all__ = ["EVERYWHERE", "Guidance", "GuidanceWrapper", "Reference"]

G = TypeVar("G", bound="Guidance")


@dataclass(frozen=True, eq=False)
class Reference:
    """A conditioning for another network: a weaker one, or the same one perturbed."""

    predict: Predict
    cond: Conditioning


class Guidance(ABC):
    """One correction of the denoiser. Plug-ins are frozen dataclasses that override `shift`, `gradient` or `condition`.

    scale: strength, at least 0. interval: first and last training timestep, both included, at which it acts
    (2404.07724): training timesteps, so that it does not depend on respacing.
    """

    scale: float
    interval: tuple[int, int]
    of_references: ClassVar[bool] = False
    """True: its `condition` holds for references of the main network, too."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        return type(self).__name__

    @property
    def references(self) -> tuple[Conditioning | Reference, ...]:
        """Further predictions that `shift` needs. Those of the main network join its call."""
        return ()

    @property
    def reads_inner_head(self) -> bool:
        """True if `shift` reads `main.inner`, which the network's inner head gives in the same call."""
        return False

    def start(self: G) -> G:
        """The guidance for one run. A stateful one returns a fresh copy."""
        return self

    def at(self, t: int) -> Guidance:
        """The guidance with the strength that it has at training timestep t: itself, unless it is scheduled."""
        return self

    def with_scale(self: G, scale: float) -> G:
        """The same with another scale, and with the same memory of this run."""
        found = copy(self)
        object.__setattr__(found, "scale", scale)  # plug-ins are frozen
        return found

    def active(self, t: int) -> bool:
        """True if it acts at training timestep t. Elsewhere it costs nothing."""
        return self.interval[0] <= t <= self.interval[1]

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        """The conditioning to use in place of `cond`, [N,...]. One guidance of a list may change it at a timestep."""
        return cond

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        """Added to x0 [N,C,H,W]: a contrast of the main prediction with those of `references`."""
        return 0.0

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        """Added to the gradient of log p(y | x_t) [N,C,H,W], scale included. The sampler applies it."""
        return 0.0


class GuidanceWrapper(Guidance):
    """A guidance around another one. Subclasses override only what they change.

    inner: the guidance whose scale, interval, name, references and need of the inner head it has.
    """

    inner: Guidance

    @property
    def scale(self) -> float:  # type: ignore[override]
        return self.inner.scale

    @property
    def interval(self) -> tuple[int, int]:  # type: ignore[override]
        return self.inner.interval

    @property
    def reads_inner_head(self) -> bool:
        return self.inner.reads_inner_head

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def references(self) -> tuple[Conditioning | Reference, ...]:
        return self.inner.references

    def active(self, t: int) -> bool:
        return self.inner.active(t)
