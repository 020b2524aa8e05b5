"""Guidance by the gradient of a likelihood: a noise-aware classifier, CLIP, or any function of x_t."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance


def in_rows(
    log_prob: Callable[[Tensor, int, Tensor], Tensor], wanted: Tensor, what: str, call_size: int | None
) -> Callable[[Tensor, int], Tensor]:
    """log_prob(x_t [G,C,H,W], t, wanted [G,...]) -> [G] as a function of x_t [N,C,H,W] and t alone.

    wanted: one row for all pictures, or one for each of N (what: its name in messages). call_size: pictures in one
    call, all by default; a fixed number makes a gradient independent of how many pictures there are, to the last bit.
    The result raises InputError for another number of rows.
    """

    def of_pictures(x: Tensor, t: int) -> Tensor:
        n = len(x)
        if len(wanted) not in (1, n):
            raise InputError(f"got {len(wanted)} {what} for {n} pictures, expected one, or one for each")
        rows = wanted.expand(n, *wanted.shape[1:])
        size = call_size or n
        if size >= n:
            return log_prob(x, t, rows)
        parts = zip(x.split(size), rows.split(size), strict=True)
        return torch.cat([log_prob(x_, t, w) for x_, w in parts])  # [N]

    of_pictures.__name__ = log_prob.__name__
    return of_pictures


@dataclass(frozen=True, eq=False)
class LogLikelihood(Guidance):
    """Guides towards larger log p(y | x_t): the score of p(x_t) p(y | x_t)^scale (ADM, 2105.05233, section 4).

    log_prob: (x_t [N,C,H,W], training timestep) -> [N], differentiable in x_t, each entry of its own sample
    only.
    """

    log_prob: Callable[[Tensor, int], Tensor]
    scale: float
    interval: tuple[int, int] = EVERYWHERE
    gain: float = 1.0
    """Of the gradient on its way back through log_prob, which is taken off it in the end. Where a network is sure, log
    p hardly has one: numbers below 1e-38, with which a CPU calculates a hundred times as slowly. A power of two changes
    no digit of all others."""

    @property
    def name(self) -> str:
        return f"{type(self).__name__}({getattr(self.log_prob, '__name__', type(self.log_prob).__name__)})"

    def active(self, t: int) -> bool:
        return self.scale != 0.0 and super().active(t)

    def gradient(self, x: Tensor, t: int) -> Tensor:
        """scale * d sum(log_prob) / d x_t [N,C,H,W], in the type of x.

        Raises InputError where log_prob has no gradient in x, or one that is not finite.
        """
        # A sampler may run without gradients, or in inference mode, whose tensors can never have one.
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x.detach().clone().requires_grad_()
            total = self.log_prob(leaf, t).sum() * self.gain
            # A network whose weights want gradients gives a total that has one even where it ignores x_t.
            known = total.requires_grad
            gradient = torch.autograd.grad(total, leaf, allow_unused=True)[0] if known else None
        if gradient is None:
            raise InputError(
                f"got a log probability without a gradient from {self.name} at timestep {t}, expected one "
                "that depends on x_t: compute it with torch, without no_grad or detach"
            )
        gradient = gradient * (self.scale / self.gain)
        # looked at one by one only where their sum is none, which is seen faster
        if not (math.isfinite(float(gradient.sum())) or torch.isfinite(gradient).all()):
            raise InputError(
                f"got a gradient that is not finite from {self.name} at timestep {t}, expected finite "
                "numbers: check the function, lower the scale, or run it in float32"
            )
        return gradient
