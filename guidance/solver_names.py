"""Samplers and spacings by name, what is said of them, and which are the usual ones.

Imports nothing heavy, so that `--help` lists them at once; `guidance.registry` has the functions.
"""

from __future__ import annotations

USUAL_SAMPLER = "ddim"
USUAL_STEPS = 20
USUAL_SPACING = "uniform"
"""What draws where nothing else is asked for, everywhere; `guidance.stage` has an upsampler's number of steps."""

SAMPLERS = {
    "ddim": "first order; --eta adds noise",
    "ddpm": "noise at every step, with the model's own variance; for many steps",
    "euler": "ddim as EDM writes it",
    "heun": "EDM's, second order; two network calls a step",
    "euler-ancestral": "euler with noise at every step",
    "plms": "PNDM's, of four predictions; one network call more than steps",
    "lms": "K-LMS, of four predictions",
    "dpmpp-2m": "DPM-Solver++, of two predictions",
    "dpmpp-2m-sde": "the same with noise at every step",
    "unipc": "of two predictions, each step corrected by the next one's",
}
"""Of first order, where nothing else is said; docs/solvers.md has their papers and their measured quality."""

SPACINGS = {
    "uniform": "even strides, both ends included",
    "trailing": "even strides, the last one down to the picture",
    "quadratic": "denser towards the picture",
    "log-snr": "even in the logarithm of the signal-to-noise ratio",
    "karras": "EDM's, denser towards the picture",
}

STOCHASTIC = frozenset({"ddpm", "euler-ancestral", "dpmpp-2m-sde"})
"""Those that draw noise on the way: two runs of different steps give different pictures."""


def _listing(table: dict[str, str]) -> str:
    return "\n".join(f"{name}  {words}" for name, words in table.items())


STEPS_HELP = f"Sampling steps. By default {USUAL_STEPS}."
SAMPLER_HELP = f"What walks from noise to the picture:\n{_listing(SAMPLERS)}"
SPACING_HELP = (
    f"Which timesteps --steps keeps. By default {USUAL_SPACING}; a --respacing that is no number is always uniform:\n"
    f"{_listing(SPACINGS)}"
)


def usual_spacing(respacing: str) -> str:
    """The spacing where none is asked for: whatever is no number of steps names its timesteps itself."""
    return USUAL_SPACING if respacing.strip().isdecimal() else "uniform"
