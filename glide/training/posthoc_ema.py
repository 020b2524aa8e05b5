"""Averages of weights whose length is chosen after the training (Karras et al., 2312.02696, section 3).

A power-function average at time t gives the weights at time tau <= t the density

    p_t(tau) = (gamma + 1) tau^gamma / t^(gamma + 1),

whose width grows with the training; it is named by its relative width, the standard deviation sigma_rel of tau / t.
Snapshots of two such averages, kept every so often, span by their profiles nearly every other one: the weights of the
sum that comes nearest to a wanted profile are a least-squares problem, and what they make of the profiles they make of
the averages.

Letters: K snapshots; times in steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glide.diffusion.process import Array
from glide.utils.errors import InputError

LARGEST = 0.28  # of sigma_rel: gamma = 0, the mean of all weights there were, has 12**-0.5 = 0.2887


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
        # as a power of tau / t, which neither overflows nor vanishes before it should
        inside = (g + 1) / self.t * np.power(np.clip(tau / self.t, 0.0, 1.0), g)
        return np.where(tau <= self.t, inside, 0.0)

    def inner(self, other: Profile) -> float:
        """The integral of the product of two densities.

        With s = min(t, t') it is (g + 1)(g' + 1) / (g + g' + 1) * s^(g + g' + 1) / (t^(g + 1) t'^(g' + 1)).
        """
        a, b, s = self.gamma, other.gamma, min(self.t, other.t)
        power = (a + b + 1) * np.log(s) - (a + 1) * np.log(self.t) - (b + 1) * np.log(other.t)
        return float((a + 1) * (b + 1) / (a + b + 1) * np.exp(power))


def gamma_of(sigma_rel: float) -> float:
    """The exponent of a relative width: sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).

    InputError for widths from LARGEST on, where the exponent comes near to 0, and for none.
    """
    if not 0.0 < sigma_rel < LARGEST:
        raise InputError(f"got the relative width {sigma_rel}, expected one above 0 and below {LARGEST}")
    s = sigma_rel**-2.0
    # (g + 2)^2 (g + 3) = s (g + 1), the largest root
    roots = np.roots([1.0, 7.0, 16.0 - s, 12.0 - s])
    return float(max(root.real for root in roots if abs(root.imag) < 1e-6))


def decay(sigma_rel: float, t: int) -> float:
    """The factor on the average in the step that makes it t steps, t from 1: (1 - 1/t)^(gamma + 1)."""
    return float((1.0 - 1.0 / t) ** (gamma_of(sigma_rel) + 1.0))


def mixture(stored: Sequence[Profile], wanted: Profile) -> Array:
    """The weights [K] of the stored averages whose sum is nearest to the wanted one, float64; they add up to 1.

    Minimises the integral of (sum of weights times profiles - wanted profile)^2 over snapshots up to the wanted time.
    InputError for no snapshots, or a time at which there is none: a profile ends at its time, as no other does.
    """
    if not stored:
        raise InputError("there are no snapshots of averages: train with --ema-snapshots")
    times = sorted({profile.t for profile in stored})
    if wanted.t not in times:
        near = min(times, key=lambda t: abs(t - wanted.t))
        raise InputError(
            f"got the step {wanted.t:g}, expected one of a snapshot, {times[0]:g} to {times[-1]:g}: the nearest "
            f"is {near:g}"
        )
    used = [profile for profile in stored if profile.t <= wanted.t]
    # scaled to unit norm, else late and early snapshots differ by orders of magnitude
    norms = np.sqrt([profile.inner(profile) for profile in used])
    gram = np.array([[a.inner(b) for b in used] for a in used]) / np.outer(norms, norms)
    target = np.array([a.inner(wanted) for a in used]) / norms
    # neighbours are nearly alike: directions that rounding drowns are left out
    found = np.linalg.lstsq(gram, target, rcond=1e-12)[0] / norms
    weights = np.zeros(len(stored))
    weights[[profile in used for profile in stored]] = found / found.sum()
    return weights


def misfit(stored: Sequence[Profile], weights: Array, wanted: Profile) -> float:
    """The norm of the difference of profiles, over the norm of the wanted one."""
    gram = np.array([[a.inner(b) for b in stored] for a in stored])
    cross = np.array([a.inner(wanted) for a in stored])
    own = wanted.inner(wanted)
    return float(np.sqrt(max(0.0, weights @ gram @ weights - 2 * weights @ cross + own) / own))
