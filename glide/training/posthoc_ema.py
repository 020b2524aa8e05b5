"""Post-hoc EMA: averages of weights whose length is chosen after training (Karras et al., 2312.02696, section 3).

A power-function average at time t gives the weights at time tau <= t the density

    p_t(tau) = (gamma + 1) tau^gamma / t^(gamma + 1),

whose width grows with the training; it is named by its relative width, the standard deviation sigma_rel of tau / t.
The profiles of a run's snapshots of two such averages span nearly every other profile: the coefficients of the linear
combination nearest to a target profile solve a least-squares problem, and the same combination of the snapshots is the
target average.

Letters: K snapshots; times in steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glide.diffusion.process import Array
from glide.utils.errors import InputError

MAX_SIGMA_REL = 0.28  # gamma = 0, the mean of all weights so far, has 12**-0.5 = 0.2887


@dataclass(frozen=True, order=True)
class Profile:
    """A power-function average at one time: t in steps, sigma_rel its relative width."""

    t: float
    sigma_rel: float

    @property
    def gamma(self) -> float:
        return gamma_of(self.sigma_rel)

    def __call__(self, tau: Array) -> Array:
        """The density at times tau; it integrates to 1 over 0 to t."""
        g = self.gamma
        # as a power of tau / t, which neither overflows nor underflows early
        inside = (g + 1) / self.t * np.power(np.clip(tau / self.t, 0.0, 1.0), g)
        return np.where(tau <= self.t, inside, 0.0)

    def inner_product(self, other: Profile) -> float:
        """The integral of the product of two densities.

        With s = min(t, t') it is (g + 1)(g' + 1) / (g + g' + 1) * s^(g + g' + 1) / (t^(g + 1) t'^(g' + 1)).
        """
        a, b, s = self.gamma, other.gamma, min(self.t, other.t)
        power = (a + b + 1) * np.log(s) - (a + 1) * np.log(self.t) - (b + 1) * np.log(other.t)
        return float((a + 1) * (b + 1) / (a + b + 1) * np.exp(power))


def gamma_of(sigma_rel: float) -> float:
    """The exponent of a relative width: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

    InputError for widths from MAX_SIGMA_REL on, where the exponent approaches 0, and for widths of 0 or less.
    """
    if not 0.0 < sigma_rel < MAX_SIGMA_REL:
        raise InputError(
            f"got the relative width {sigma_rel}, expected one above 0 and below {MAX_SIGMA_REL}"
        )
    s = sigma_rel**-2.0
    # (g + 2)^2 (g + 3) = s (g + 1), the largest root
    roots = np.roots([1.0, 7.0, 16.0 - s, 12.0 - s])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-6))


def decay(sigma_rel: float, t: int) -> float:
    """The factor on the average in step t, counted from 1: (1 - 1/t)^(gamma + 1)."""
    return float((1.0 - 1.0 / t) ** (gamma_of(sigma_rel) + 1.0))


def mixture_weights(stored: Sequence[Profile], target: Profile) -> Array:
    """Coefficients [K] of the stored averages whose sum is nearest to the target, float64; they add up to 1.

    Minimises the integral of (sum of weights times profiles - target profile)^2 over snapshots up to the target's time.
    InputError without snapshots, or for a time without one: only snapshots of that time have profiles that end there.
    """
    if not stored:
        raise InputError("there are no snapshots of averages: train with --ema-snapshots")
    times = sorted({profile.t for profile in stored})
    if target.t not in times:
        near = min(times, key=lambda t: abs(t - target.t))
        raise InputError(
            f"got the step {target.t:g}, expected one of a snapshot, {times[0]:g} to {times[-1]:g}: the nearest "
            f"is {near:g}"
        )
    used = [profile for profile in stored if profile.t <= target.t]
    # scaled to unit norm, else late and early snapshots differ by orders of magnitude
    norms = np.sqrt([profile.inner_product(profile) for profile in used])
    gram = np.array([[a.inner_product(b) for b in used] for a in used]) / np.outer(norms, norms)
    projections = np.array([a.inner_product(target) for a in used]) / norms
    # neighbours are nearly parallel: directions below rounding are left out
    found = np.linalg.lstsq(gram, projections, rcond=1e-12)[0] / norms
    weights = np.zeros(len(stored))
    weights[[profile in used for profile in stored]] = found / found.sum()
    return weights


def misfit(stored: Sequence[Profile], weights: Array, target: Profile) -> float:
    """The norm of the difference of the profiles, relative to the norm of the target."""
    gram = np.array([[a.inner_product(b) for b in stored] for a in stored])
    cross = np.array([a.inner_product(target) for a in stored])
    own = target.inner_product(target)
    return float(np.sqrt(max(0.0, weights @ gram @ weights - 2 * weights @ cross + own) / own))
