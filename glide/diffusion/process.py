"""The forward process: q(x_t | x_0), the posterior and respacing. Float64, no network.

Shape letters: N batch, C channels, H W pixels, T training timesteps, S entries of a (respaced) process.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glide.utils.errors import InputError
from glide.utils.numbers import read_whole, shown_number

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Process:
    """A discrete Gaussian diffusion process, `q(x_t | x_0) = N(sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)`.

    A respaced process is just another Process: fewer entries, each of which remembers the training timestep
    that the network must receive. All coefficients are float64 arrays [S] (DDPM, 2006.11239, eq. 4, 6, 7).
    """

    alpha_bar: Array  # [S] decreasing, in [0, 1)
    timesteps: NDArray[np.int64]  # [S] increasing: the training timestep of each entry

    def __post_init__(self) -> None:
        assert (
            self.alpha_bar.ndim == 1 and self.alpha_bar.shape == self.timesteps.shape and len(self.alpha_bar)
        )
        assert np.all(np.diff(self.alpha_bar_prev) < 0) and self.alpha_bar_prev[-1] > self.alpha_bar[-1] >= 0

    def __len__(self) -> int:
        return len(self.alpha_bar)

    @cached_property
    def alpha_bar_prev(self) -> Array:
        """alpha_bar of the next cleaner entry; 1 (the image itself) for the first."""
        return np.concatenate([[1.0], self.alpha_bar[:-1]])

    @cached_property
    def betas(self) -> Array:
        """Variance of one forward step between neighbouring entries, in (0, 1]."""
        return 1.0 - self.alpha_bar / self.alpha_bar_prev

    @cached_property
    def snr(self) -> Array:
        """Signal-to-noise ratio alpha_bar / (1 - alpha_bar); 0 at a zero terminal SNR."""
        return self.alpha_bar / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_variance(self) -> Array:
        """Variance of q(x_{t-1} | x_t, x_0) (DDPM eq. 7); 0 at the first entry."""
        return self.betas * (1.0 - self.alpha_bar_prev) / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_log_variance(self) -> Array:
        """Its logarithm, clipped as ADM does: the first entry, log 0, is replaced by the second.

        A process of one entry has no second: there it is log beta, the variance's upper bound.
        """
        second = self.posterior_variance[1:2] if len(self) > 1 else self.betas[:1]
        return np.log(np.concatenate([second, self.posterior_variance[1:]]))

    @cached_property
    def posterior_mean_coef_x0(self) -> Array:
        """Weight of x_0 in the mean of q(x_{t-1} | x_t, x_0) (DDPM eq. 7)."""
        return self.betas * np.sqrt(self.alpha_bar_prev) / (1.0 - self.alpha_bar)

    @cached_property
    def posterior_mean_coef_xt(self) -> Array:
        """Weight of x_t in the mean of q(x_{t-1} | x_t, x_0) (DDPM eq. 7)."""
        return (1.0 - self.alpha_bar_prev) * np.sqrt(1.0 - self.betas) / (1.0 - self.alpha_bar)

    def respaced(self, keep: Sequence[int]) -> "Process":
        """The process that visits only the entries `keep`: increasing indices into this one, see `respacing`.

        The marginals q(x_t | x_0) stay the same, so betas and posteriors follow from alpha_bar alone.
        Raises InputError for an empty, unordered or out-of-range selection.
        """
        index = np.asarray(keep, dtype=np.int64)
        if index.ndim != 1 or not len(index) or np.any(np.diff(index) <= 0):
            raise InputError(
                f"got the timesteps {list(keep)}, expected at least one, in increasing order: "
                "sort them and drop doubles"
            )
        if index[0] < 0 or index[-1] >= len(self):
            raise InputError(
                f"got timesteps from {index[0]} to {index[-1]}, expected 0 to {len(self) - 1}: "
                "keep what the process has"
            )
        return Process(self.alpha_bar[index], self.timesteps[index])

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Draw x_t [N,C,H,W] given x0 and unit Gaussian noise of that shape (DDPM eq. 4).

        t: LongTensor [N], indices into this process.
        """
        alpha, sigma = gather(np.sqrt(self.alpha_bar), t, x0), gather(np.sqrt(1.0 - self.alpha_bar), t, x0)
        return torch.addcmul(alpha * x0, sigma, noise)


def gather(table: Array, t: Tensor, like: Tensor) -> Tensor:
    """table[t] as a tensor [N,1,1,...] that multiplies `like` [N,...]: float32, float64 where `like` is."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    # Cast before moving: some devices have no float64.
    values = torch.from_numpy(table).to(dtype).to(t.device)[t]
    return values.reshape(-1, *[1] * (like.ndim - 1))


# --- respacing --------------------------------------------------------------------------------


def respacing(spec: str, steps: int) -> list[int]:
    """The timesteps that a shortened process keeps, in increasing order, as ADM and GLIDE choose them.

    spec: "100" (that many, evenly, both ends included), "10,10,3,2,2" (so many in each of as many equal
    sections, the cleanest first), "ddim50" (a fixed whole stride from 0, as in the DDIM paper), or "fast27"
    (GLIDE's set for the upsampler: "10,10,3,2,2" with the last timestep moved down by two). "1" keeps the
    noisiest timestep. Raises InputError where the specification does not fit into `steps` timesteps.
    """
    expected = 'a count ("100"), counts per section ("10,10,3,2,2"), "ddim50" or "fast27"'
    spec = spec.strip()
    if spec == "fast27":
        kept = _sectioned([10, 10, 3, 2, 2], steps, spec)
        # The noisiest timestep carries almost no signal: leaving it out helps deterministic solvers.
        return [*kept[:-1], steps - 3]
    counts = spec.removeprefix("ddim").split(",")
    try:
        sizes = [read_whole(count, "a count", 1) for count in counts]
    except InputError:
        raise InputError(
            f"got the respacing {shown_number(spec)}, expected {expected}: choose one, with counts above 0"
        ) from None
    if spec.startswith("ddim"):
        return _strided(sizes, steps, spec)
    if sizes == [1]:
        return [steps - 1]
    return _sectioned(sizes, steps, spec)


def _strided(counts: list[int], steps: int, spec: str) -> list[int]:
    if len(counts) == 1:
        # no longer stride, as in the original: it would leave timestep 0 alone, where there is nothing to denoise
        for stride in range(1, max(steps, 2)):
            if len(range(0, steps, stride)) == counts[0]:
                return list(range(0, steps, stride))
    raise InputError(
        f"got the respacing {spec!r}, expected a count that a whole stride through {steps} timesteps gives: "
        "try ddim25 or ddim50, or leave out 'ddim' for an even spread"
    )


def _sectioned(counts: list[int], steps: int, spec: str) -> list[int]:
    kept: list[int] = []
    start = 0
    for section, count in enumerate(counts):
        size = steps // len(counts) + (section < steps % len(counts))
        if count > size:
            raise InputError(
                f"got the respacing {spec!r}, expected at most {size} steps in section {section + 1} of "
                f"{len(counts)} ({steps} timesteps in all): ask for fewer"
            )
        stride = (size - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0
        for _ in range(count):
            kept.append(start + round(position))
            position += stride  # accumulated, not multiplied: at halves the originals' rounding depends on it
        start += size
    return kept
