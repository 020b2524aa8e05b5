"""How pictures are drawn, whatever they show."""

import math
from dataclasses import dataclass

from glide.errors import InputError


@dataclass(frozen=True)
class Settings:
    """InputError for numbers out of their range; names and respacings are checked where they are looked up."""

    sampler: str = "ddim"
    respacing: str = "50"
    """A number of steps, or what else `glide.process.respacing` takes."""
    eta: float = 0.0
    """Noise that DDIM adds on the way: 0 (none) to 1 (as much as DDPM)."""
    guidance: str = "cfg"
    scale: float = 3.0
    """Strength of the guidance, from 0."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0.0):
            raise InputError(f"got the guidance scale {self.scale}, expected a number of at least 0: try 3")
        if not 0.0 <= self.eta <= 1.0:
            raise InputError(
                f"got eta {self.eta}, expected 0 (no noise) to 1 (as much as DDPM): choose in between"
            )


def spec_of_steps(steps: int) -> str:
    """A number of steps as a respacing. InputError below 1."""
    if steps < 1:
        raise InputError(f"got {steps} steps, expected at least 1: try 50")
    return str(steps)
