"""Timestep spacings: rules that choose which training timesteps a shortened process keeps.

Shape letters: T training timesteps, n of them kept.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from glide.diffusion.process import Array, Process, respacing
from glide.utils.errors import InputError
from glide.utils.numbers import read_whole, shown_number

MAX_NOISE_RATIO = 80.0
"""sigma / alpha where log-snr and karras begin: EDM's sigma_max (2206.00364, table 1). More noise decides nothing."""
RHO = 7.0  # of EDM (2206.00364, table 1)


def quadratic(alpha_bar: Array, n: int) -> Array:
    """Timesteps c i^2 (2010.02502, appendix D.2): dense where the picture is almost clean."""
    return (len(alpha_bar) - 1.0) * np.linspace(0.0, 1.0, n) ** 2


def trailing(alpha_bar: Array, n: int) -> Array:
    """T, T - T/n, T - 2T/n, ..., less one (2305.08891, table 2): even strides, the last one down to the picture."""
    return np.rint(len(alpha_bar) * np.arange(1, n + 1) / n) - 1.0


def trailing_quadratic(alpha_bar: Array, n: int) -> Array:
    """T (i / n)^2 - 1 for i = 1 .. n: the last step down to the picture as in trailing, the others denser towards it.

    Half of the steps are every second one of them, as progressive distillation wants.
    """
    return np.maximum(np.rint(len(alpha_bar) * (np.arange(1, n + 1) / n) ** 2) - 1.0, 0.0)


def log_snr(alpha_bar: Array, n: int) -> Array:
    """Even in the logarithm of the signal-to-noise ratio (DPM-Solver, 2206.00927, section 3.4)."""
    return _even_on_scale(alpha_bar, n, np.log, np.exp)


def karras(alpha_bar: Array, n: int) -> Array:
    """Even in the noise ratio's seventh root (EDM, 2206.00364, eq. 5)."""
    return _even_on_scale(alpha_bar, n, lambda ratio: ratio ** (1.0 / RHO), lambda root: root**RHO)


SPACINGS: dict[str, Callable[[Array, int], Array]] = {
    "quadratic": quadratic,
    "trailing": trailing,
    "trailing-quadratic": trailing_quadratic,
    "log-snr": log_snr,
    "karras": karras,
}
"""From alpha_bar [T] and n to positions [n] among the timesteps, not yet rounded. `respacing` makes "uniform"."""


def space_timesteps(process: Process, spec: str, spacing: str = "uniform") -> list[int]:
    """The entries that a process of T keeps, in increasing order.

    spec: a number, or for "uniform" any spec of `respacing`. A single step is always the noisiest entry. InputError for
    an unknown spacing, for a spec that is no number with another spacing than "uniform", and for more than T steps.
    """
    if spacing == "uniform":
        return respacing(spec, len(process))
    if spacing not in SPACINGS:
        raise InputError(
            f"got the spacing {spacing!r}, expected uniform or {' or '.join(SPACINGS)}: choose one of these"
        )
    try:
        n = read_whole(spec, "steps")
    except InputError:
        raise InputError(
            f"got the spacing {spacing!r} for the respacing {shown_number(spec)}, expected a number of steps: give "
            "one, or leave the spacing out"
        ) from None
    if not 1 <= n <= len(process):
        raise InputError(
            f"got {n} steps, expected 1 to {len(process)}, the timesteps of the model: ask for another number"
        )
    if n == 1:
        return [len(process) - 1]
    return _distinct(SPACINGS[spacing](process.alpha_bar, n), len(process))


def _even_on_scale(
    alpha_bar: Array, n: int, scale: Callable[[Array], Array], inverse: Callable[[Array], Array]
) -> Array:
    """Positions of n noise ratios, even on a scale, from the cleanest entry's to MAX_NOISE_RATIO or the noisiest's.

    Pure noise has an infinite ratio: it takes the position of MAX_NOISE_RATIO, as such a process must begin with it.
    """
    with np.errstate(divide="ignore"):
        ratio = np.sqrt((1.0 - alpha_bar) / alpha_bar)
    count = max(int((ratio <= MAX_NOISE_RATIO).sum()), 1)
    levels = inverse(np.linspace(scale(ratio[0]), scale(ratio[count - 1]), n))
    positions = np.interp(np.log(levels), np.log(ratio[:count]), np.arange(count))
    if alpha_bar[-1] == 0.0:
        positions[-1] = len(alpha_bar) - 1
    return positions


def _distinct(positions: Array, steps: int) -> list[int]:
    """The nearest entries of a process of `steps`, each only once: an entry that is taken moves up, then down."""
    kept = [int(position) for position in np.rint(positions)]
    for i in range(1, len(kept)):
        kept[i] = max(kept[i], kept[i - 1] + 1)
    for i in range(1, len(kept) + 1):
        kept[-i] = min(kept[-i], steps - i)
    return kept
