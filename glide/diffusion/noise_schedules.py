"""Noise schedules by name, the training process made of one, and its rescaling to zero terminal SNR. Float64.

A schedule is a function from the number of timesteps T to the variances beta_t [T] of the forward steps; alpha_bar_t is
the product of 1 - beta_s up to t (DDPM, 2006.11239, section 2). Adding one is a function and its entry in SCHEDULES.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from glide.diffusion.process import Array, Process
from glide.utils.errors import InputError

MAX_BETA = 0.999  # schedules given by alpha_bar would end in a singular step (2102.09672, section 3.2)


def _betas_of(alpha_bar: Callable[[float], float], steps: int) -> Array:
    """beta_i = min(1 - alpha_bar((i + 1) / T) / alpha_bar(i / T), 0.999) of a continuous alpha_bar on [0, 1].

    iDDPM (2102.09672, eq. 17). Returns float64 [T].
    """
    return np.array(
        [min(1.0 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), MAX_BETA) for i in range(steps)],
        dtype=np.float64,
    )


def ends_of(steps: int) -> tuple[float, float]:
    """First and last beta of DDPM, 1e-4 and 0.02 for 1000 steps (2006.11239, section 4), both times 1000 / T (ADM)."""
    scale = 1000.0 / steps
    return scale * 1e-4, scale * 0.02


def linear_betas(steps: int, ends: Sequence[float] = ()) -> Array:
    """beta linear in t (DDPM, 2006.11239, section 4). ends: first and last beta, by default `ends_of`.

    Returns float64 [T].
    """
    first, last = ends or ends_of(steps)
    return np.linspace(first, last, steps, dtype=np.float64)


def quadratic_betas(steps: int, ends: Sequence[float] = ()) -> Array:
    """sqrt(beta) linear in t, with the ends of `linear_betas`.

    "quad" in the released code of DDPM; latent diffusion (2112.10752) calls the same form "scaled linear", with other
    ends. Returns float64 [T].
    """
    first, last = ends or ends_of(steps)
    return np.linspace(math.sqrt(first), math.sqrt(last), steps, dtype=np.float64) ** 2


def betas_along_sigmoid(steps: int, ends: Sequence[float] = ()) -> Array:
    """beta along a logistic sigmoid of -6 to 6, between the ends of `linear_betas`: that of the annotated article.

    Its first and last beta are those of sigmoid(-6) and sigmoid(6), a quarter percent of the way within. Returns
    float64 [T].
    """
    first, last = ends or ends_of(steps)
    return first + (last - first) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, steps, dtype=np.float64)))


def cosine_betas(steps: int) -> Array:
    """alpha_bar(t) = cos^2((t + 0.008) / 1.008 * pi / 2), t from 0 to 1 (iDDPM, 2102.09672, eq. 17).

    Returns float64 [T].
    """
    return _betas_of(lambda t: math.cos((t + 0.008) / 1.008 * math.pi / 2.0) ** 2, steps)


def sigmoid_betas(steps: int) -> Array:
    """alpha_bar(t) = (s(3) - s(6 t - 3)) / (s(3) - s(-3)), s the logistic sigmoid, t from 0 to 1.

    RIN (2212.11972); as code in 2301.10972, algorithm 1, with tau = 1. Returns float64 [T].
    """

    def sigmoid(z: float) -> float:
        return 1.0 / (1.0 + math.exp(-z))

    first, last = sigmoid(-3.0), sigmoid(3.0)
    return _betas_of(lambda t: (last - sigmoid(6.0 * t - 3.0)) / (last - first), steps)


def geometric_betas(steps: int, sigmas: Sequence[float] = ()) -> Array:
    """sqrt(1 / alpha_bar - 1) a geometric sequence: that of score-based models whose variance explodes.

    NCSN (1907.05600, section 4.1), 2011.13456 (appendix C). sigmas: its ends, the noise's deviation beside pictures in
    [-1, 1], by default 0.02 and 100 (EDM, 2206.00364, table 1). Returns float64 [T].
    """
    first, last = sigmas or (0.02, 100.0)
    alpha_bar = 1.0 / (1.0 + np.geomspace(first, last, steps, dtype=np.float64) ** 2)
    return np.asarray(1.0 - alpha_bar / np.concatenate([[1.0], alpha_bar[:-1]]))


SCHEDULES: dict[str, Callable[[int], Array]] = {
    "linear": linear_betas,
    "squaredcos_cap_v2": cosine_betas,
    "cosine": cosine_betas,
    "quadratic": quadratic_betas,
    "sigmoid": sigmoid_betas,
    "sigmoid_betas": betas_along_sigmoid,
    "geometric": geometric_betas,
}
"""By name; `squaredcos_cap_v2` is what guided-diffusion and GLIDE call the cosine schedule."""
BETWEEN: dict[str, Callable[[int, Sequence[float]], Array]] = {
    "linear": linear_betas,
    "quadratic": quadratic_betas,
    "sigmoid_betas": betas_along_sigmoid,
}
"""Schedules between a first and a last beta, by name."""


MAX_SHIFT = 1e6  # beyond, not even the first timestep keeps anything of a picture


def make_process(
    schedule: str = "squaredcos_cap_v2",
    steps: int = 1000,
    shift: float = 1.0,
    zero_terminal_snr: bool = False,
    betas: Sequence[float] = (),
    sigmas: Sequence[float] = (),
) -> Process:
    """The training process of `steps` timesteps.

    schedule: a key of SCHEDULES.
    shift: divides every SNR by shift^2; 1 is the schedule itself, more than 1 spends more timesteps on noisy
    images, as larger pictures need (simple diffusion, 2301.11093, section 3).
    zero_terminal_snr: see `rescale_to_zero_terminal_snr`; applied last.
    betas: first and last beta of a schedule of BETWEEN, by default `ends_of`; others have none.
    sigmas: least and largest noise of the geometric schedule; others have none.
    Raises InputError for an unknown schedule or numbers that give no process.
    """
    if schedule not in SCHEDULES:
        raise InputError(
            f"got the noise schedule {schedule!r}, expected one of {', '.join(SCHEDULES)}: choose one"
        )
    if steps < 1 or not 0.0 < shift <= MAX_SHIFT:
        raise InputError(
            f"got {steps} steps and shift {shift}, expected both above 0 and a shift of at most {MAX_SHIFT:g}: give at "
            "least one step, shift 1"
        )
    if betas and (len(betas) != 2 or not 0.0 < betas[0] <= betas[1] < 1.0):
        raise InputError(
            f"got the betas {', '.join(f'{beta:g}' for beta in betas)}, expected the first and the last one, above 0 "
            "and below 1: correct or leave them out"
        )
    if sigmas and (len(sigmas) != 2 or not 0.0 < sigmas[0] < sigmas[1] or schedule != "geometric"):
        raise InputError(
            f"got the sigmas {', '.join(f'{sigma:g}' for sigma in sigmas)} for the {schedule} schedule, expected the "
            "least and the largest, above 0, for geometric: correct or leave them out"
        )
    if schedule == "geometric":
        every = geometric_betas(steps, sigmas)
    else:
        every = (
            BETWEEN[schedule](steps, betas) if betas and schedule in BETWEEN else SCHEDULES[schedule](steps)
        )
    if every.max() >= 1.0:
        raise InputError(
            f"got {steps} steps of the {schedule} schedule, expected more than 20: its last beta exceeds 1"
        )
    alpha_bar: Array = np.cumprod(1.0 - every, dtype=np.float64)
    if shift != 1.0:
        alpha_bar /= alpha_bar + shift**2 * (1.0 - alpha_bar)
    if zero_terminal_snr:
        alpha_bar = rescale_to_zero_terminal_snr(alpha_bar)
    if not np.all(np.diff(alpha_bar, prepend=1.0) < 0.0):
        raise InputError(
            f"got shift {shift:g} for {steps} steps of the {schedule} schedule, expected noise that grows at every "
            "step: give a shift nearer to 1"
        )
    return Process(alpha_bar, np.arange(steps, dtype=np.int64))


def rescale_to_zero_terminal_snr(alpha_bar: Array) -> Array:
    """Shift and scale sqrt(alpha_bar): the last entry becomes 0, the first stays (2305.08891, algorithm 1).

    Such a process needs a network that predicts v or x0. Raises InputError for a process of one step.
    """
    if len(alpha_bar) < 2:
        raise InputError(
            "got zero terminal SNR with one step, expected two or more: give more diffusion steps"
        )
    root = np.sqrt(alpha_bar)
    root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
    return root**2
