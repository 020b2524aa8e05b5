"""Denoisers: networks whose prediction is converted to x0, which can then be projected.

Shape letters: N batch, C channels, H W pixels, K conditionings.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.process import Process, gather
from glide.utils.errors import InputError

Space = Literal["eps", "x0", "v"]
Variance = Literal["learned", "fixed_small", "fixed_large"]
SPACES: tuple[str, ...] = ("eps", "x0", "v")
VARIANCES: tuple[str, ...] = ("learned", "fixed_small", "fixed_large")


@dataclass(frozen=True, eq=False)
class Prediction:
    """A denoiser's prediction at x_t: the image x0, its variance, and a gradient for the sampler.

    x0 is carried, not eps: recovering a pinned x0 through eps costs precision at the noisy end.
    """

    x0: Tensor  # [N,C,H,W] E[x_0 | x_t], float32, nominally in [-1, 1]
    v: Tensor | None = None
    """[N,C,H,W] log-variance interpolation, nominally in [-1, 1], if the model learned one."""
    grad: Tensor | float = 0.0  # [N,C,H,W] sum of scale * d log p(y | x_t) / d x_t: the sampler spends it
    inner: Tensor | None = None
    """[N,C,H,W] x0 by the network's inner head, where it was asked for."""


Network = Callable[..., Tensor]
"""x_t [N,C,H,W], t LongTensor [N], cond -> [N,C or 2C,H,W]. With inner=True, of a network that has an inner head, C
further channels with its prediction."""
Predict = Callable[..., list[Prediction]]
"""One batched network call: x_t [N,C,H,W], t, K conditionings -> K predictions. inner=True: with the inner head's."""
Denoiser = Callable[[Tensor, int], Prediction]  # x_t [N,C,H,W], training timestep
Scalar = TypeVar("Scalar", float, Tensor)


def to_x0(space: Space, output: Tensor, x_t: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
    """x0 from a network's output, given x_t = alpha x0 + sigma eps.

    alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar), as numbers or as tensors that broadcast. eps: DDPM
    (2006.11239) eq. 15; v = alpha eps - sigma x0: progressive distillation (2202.00512), appendix D.
    """
    if space == "x0":
        return output
    if space == "v":
        return alpha * x_t - sigma * output
    return (x_t - sigma * output) / alpha


def split_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """A network's output [N,C or 2C,H,W] as (prediction [N,C,H,W], v [N,C,H,W] or None)."""
    if output.shape[1] == channels:
        return output, None
    if output.shape[1] == 2 * channels:
        mean, v = output.chunk(2, dim=1)  # 2 x [N,C,H,W]
        return mean, v
    raise InputError(
        f"got a network output of {output.shape[1]} channels for x of {channels}, expected {channels} or "
        f"{2 * channels}: give x the channels that the model was trained on"
    )


def split_inner(output: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """A network's output with that of its inner head [N,C' + C,H,W] as ([N,C',H,W], [N,C,H,W])."""
    return output[:, :-channels], output[:, -channels:]


def log_variance(process: Process, t: Tensor, v: Tensor | None, variance: Variance, like: Tensor) -> Tensor:
    """Log variance of p(x_{t-1} | x_t), [N,C,H,W] or [N,1,1,1].

    t: LongTensor [N], indices into `process`. learned: interpolates between log beta (v = 1) and the
    posterior's (v = -1), iDDPM (2102.09672) eq. 15. fixed_small: the posterior's; fixed_large: log beta
    (DDPM, section 3.2). Raises InputError for an unknown kind, and for `learned` where the model has no v.
    """
    small = gather(process.posterior_log_variance, t, like)
    large = gather(np.log(process.betas), t, like)
    if variance == "fixed_small":
        return small
    if variance == "fixed_large":
        # ADM: the last step's variance is the posterior's here too, where beta would blur the decoder.
        return torch.where(t.reshape(large.shape) == 0, small, large)
    if variance != "learned":
        raise InputError(f"got the variance {variance!r}, expected one of {', '.join(VARIANCES)}: choose one")
    if v is None:
        raise InputError(
            "got variance 'learned' from a model that has not learned one (it outputs C channels, not 2C): "
            "use fixed_small or fixed_large"
        )
    frac = (v + 1.0) / 2.0
    return frac * large + (1.0 - frac) * small


def check_space(process: Process, space: str) -> None:
    """Raise InputError for an unknown prediction space, or for eps where the process ends in pure noise."""
    if space not in SPACES:
        raise InputError(f"got the prediction {space!r}, expected one of {', '.join(SPACES)}: choose one")
    if space == "eps" and process.alpha_bar[-1] == 0.0:
        raise InputError(
            "got an eps prediction with zero terminal SNR, where eps says nothing about x0; expected one of "
            "v or x0: train such a model, or leave the schedule as it is"
        )


class Predictor:
    """A network as a `Predict`: it takes x_t, t and K conditionings, and returns K predictions of one batched call."""

    def __init__(
        self,
        network: Network,
        process: Process,
        prediction: Space = "eps",
        call_size: int | None = None,
        channels_last: bool = False,
    ) -> None:
        """process: the training process (timesteps 0 .. T-1).

        call_size: pictures in one network call, of which x_t must be a multiple; None: all of them. channels_last: the
        memory format of x_t, in which U-Nets are fastest. Raises InputError for a prediction space that does not fit
        the process.
        """
        check_space(process, prediction)
        self.network, self.process, self.prediction = network, process, prediction
        self.call_size, self.channels_last = call_size, channels_last

    def __call__(
        self, x: Tensor, t: int, conds: Sequence[Conditioning], inner: bool = False
    ) -> list[Prediction]:
        """x [N,C,H,W] -> one prediction for each of K conditionings. inner: with `Prediction.inner`, by the same call.

        The network gets x [K*N,C,H,W] in float32 or better and may cast it; its output is converted back to float32
        before any arithmetic. A conditioning of one row is used for the whole batch. Raises InputError for a timestep
        outside the process, and for conditionings of another batch size or with different parts.
        """
        if not 0 <= t < len(self.process):
            raise InputError(
                f"got timestep {t}, expected 0 to {len(self.process) - 1}: use the model's own process"
            )
        asked = {"inner": True} if inner else {}  # networks of other packages know of no inner head
        size = self.call_size or len(x)
        if len(x) == size:  # conditionings as they are
            return self._read(x, t, self.network(*self._inputs(x, t, conds), **asked), inner)
        assert len(x) % size == 0, f"{len(x)} pictures do not fill calls of {size}"
        parts = []
        for start in range(0, len(x), size):
            rows = slice(start, start + size)
            inputs = self._inputs(x[rows], t, [_rows(cond, rows) for cond in conds])
            parts.append(self._read(x[rows], t, self.network(*inputs, **asked), inner))
        return [_join(of_cond) for of_cond in zip(*parts, strict=True)]

    def _inputs(
        self, x: Tensor, t: int, conds: Sequence[Conditioning]
    ) -> tuple[Tensor, Tensor, Conditioning]:
        """x [N,C,H,W] and K conditionings as one batch of K*N rows."""
        n, k = len(x), len(conds)
        together = Conditioning.cat([_fit_rows(cond, n) for cond in conds])
        steps = torch.full((k * n,), t, dtype=torch.int64, device=x.device)
        repeated = x if k == 1 else x.repeat(k, *[1] * (x.ndim - 1))  # [K*N,C,H,W]
        if self.channels_last:
            repeated = repeated.contiguous(memory_format=torch.channels_last)
        return repeated, steps, together

    def _read(self, x: Tensor, t: int, output: Tensor, inner: bool) -> list[Prediction]:
        """The network's output [K*N,C or 2C,H,W] for x [N,C,H,W] as K predictions. inner: it has C channels more."""
        alpha = math.sqrt(self.process.alpha_bar[t])
        sigma = math.sqrt(1.0 - self.process.alpha_bar[t])
        predictions = []
        output = output.to(torch.promote_types(x.dtype, torch.float32))
        for out in output.split(len(x)):  # K x [N,C or 2C,H,W]
            main, of_head = split_inner(out, x.shape[1]) if inner else (out, None)
            mean, v = split_variance(main, x.shape[1])
            found = Prediction(to_x0(self.prediction, mean, x, alpha, sigma), v)
            if of_head is not None:
                found = replace(found, inner=to_x0(self.prediction, of_head, x, alpha, sigma))
            predictions.append(found)
        return predictions


def _rows(cond: Conditioning, rows: slice) -> Conditioning:
    """The rows of a conditioning; one of a single row is used for every picture, and stays."""
    return cond if cond.rows in (None, 1) else cond[rows]


def _join(parts: Sequence[Prediction]) -> Prediction:
    v = [part.v for part in parts if part.v is not None]
    inner = [part.inner for part in parts if part.inner is not None]
    return Prediction(
        torch.cat([part.x0 for part in parts]),  # [N,C,H,W]
        torch.cat(v) if v else None,
        inner=torch.cat(inner) if inner else None,
    )


def _fit_rows(cond: Conditioning, n: int) -> Conditioning:
    rows = cond.rows
    if rows is None or rows == n:
        return cond
    if rows == 1:
        return cond.repeat(n)
    raise InputError(
        f"got a conditioning of {rows} rows for {n} samples, expected {n} or 1: give one row a sample"
    )


def project(denoise: Denoiser, *maps: Callable[[Tensor], Tensor]) -> Denoiser:
    """The denoiser with `maps` applied to x0, in order; v and grad stay unchanged."""

    def projected(x: Tensor, t: int) -> Prediction:
        prediction = denoise(x, t)
        x0 = prediction.x0
        for change in maps:
            x0 = change(x0)
        return replace(prediction, x0=x0)

    return projected


def clamp(x0: Tensor) -> Tensor:
    """Clip x0 to [-1, 1], the range of images."""
    return x0.clamp(-1.0, 1.0)


def replace_known(image: Tensor, mask: Tensor) -> Callable[[Tensor], Tensor]:
    """A map that sets x0 to `image` [N,C,H,W] in [-1, 1] where `mask` [N,1,H,W] is 1, and keeps it elsewhere."""

    def pin(x0: Tensor) -> Tensor:
        return x0 * (1.0 - mask) + image * mask

    return pin


def pinned(prediction: Prediction, image: Tensor, mask: Tensor) -> Prediction:
    """The prediction with x0 pinned to `image` [N,C,H,W] where `mask` [N,1,H,W] is 1, and no gradient there."""
    grad = prediction.grad if isinstance(prediction.grad, float) else prediction.grad * (1.0 - mask)
    return replace(prediction, x0=replace_known(image, mask)(prediction.x0), grad=grad)


def pin_known(denoise: Denoiser, image: Tensor, mask: Tensor) -> Denoiser:
    """The denoiser for a picture whose pixels `image` are known where `mask` is 1: its predictions are `pinned`.

    A deterministic solver applies a gradient through eps and back, in float32, so a known pixel of its result can still
    be off by rounding: paste `image` into the last x.
    """

    def denoise_pinned(x: Tensor, t: int) -> Prediction:
        return pinned(denoise(x, t), image, mask)

    return denoise_pinned
