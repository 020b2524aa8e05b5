"""The configuration of a diffusion process. Imports neither NumPy nor torch before it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from glide.utils.config_check import Entries
from glide.utils.errors import InputError
from glide.utils.numbers import Range

if TYPE_CHECKING:
    from glide.diffusion.process import Process


@dataclass(frozen=True)
class ProcessConfig:
    """The noise schedule a model was trained with, and what its output means."""

    schedule: Literal[
        "linear", "squaredcos_cap_v2", "cosine", "quadratic", "sigmoid", "sigmoid_betas", "geometric"
    ] = "squaredcos_cap_v2"
    steps: Annotated[int, Range(1, 100_000)] = 1000
    betas: Annotated[tuple[float, ...], Range(0, 1), Entries(2)] = ()
    """(linear, quadratic, sigmoid_betas) First and last beta, for any number of steps; empty: 1e-4 and 0.02 for 1000
    steps, more for fewer."""
    sigmas: Annotated[tuple[float, ...], Range(1e-6, 1e6), Entries(2)] = ()
    """(geometric) Least and largest deviation of the noise beside pictures in [-1, 1]; empty: 0.02 and 100."""
    shift: Annotated[float, Range(1e-3, 1e3)] = 1.0
    """Divides the signal-to-noise ratio by shift**2: more noise at every step."""
    zero_terminal_snr: bool = False
    """Rescales the schedule so that the last timestep holds no signal (2305.08891); needs the prediction v or x0."""
    prediction: Literal["eps", "x0", "v"] = "eps"
    variance: Literal["learned", "fixed_small", "fixed_large"] = "learned"
    """The ancestral sampler's; "learned" needs a U-Net with twice the image's channels."""

    def build(self) -> Process:
        """The training process. InputError for numbers that give none."""
        from glide.diffusion.noise_schedules import make_process  # with NumPy and torch

        return make_process(
            self.schedule, self.steps, self.shift, self.zero_terminal_snr, self.betas, self.sigmas
        )

    def check(self) -> None:
        """InputError for numbers that give no process."""
        try:
            self.build()
        except AssertionError as error:  # rounding makes of two steps one
            raise InputError(
                f"the noise schedule {self.schedule} with {self.steps} steps and shift {self.shift:g} does not add "
                "noise at every step, expected one that does: use 1000 steps and shift 1"
            ) from error
