"""Samplers and spacings by name, what is said of them, and which are the usual ones.

Imports nothing heavy, so that `--help` lists them at once; `guidance.registry` has the functions.
"""

from __future__ import annotations

USUAL_SAMPLER = "dpmpp-2m"
USUAL_STEPS = 20
"""What draws where nothing else is asked for, everywhere; an upsampler by fewer steps."""
UPSAMPLING_STEPS = 8
"""What enlarges is told most of it. By these steps the embedded upsampler comes nearer to what many steps draw than by
GLIDE's 27 of DDIM ("fast27"); docs/upsampling.md has the figures."""

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

USUAL_SPACINGS = {"dpmpp-2m": "log-snr"}
"""Of the samplers whose steps lie otherwise than "uniform" where nothing is asked for."""

STOCHASTIC = frozenset({"ddpm", "euler-ancestral", "dpmpp-2m-sde"})
"""Those that draw noise on the way: two runs of different steps give different pictures."""


def _listing(table: dict[str, str]) -> str:
    return "\n".join(f"{name}  {words}" for name, words in table.items())


STEPS_HELP = f"Sampling steps. By default {USUAL_STEPS}."
SAMPLER_HELP = f"What walks from noise to the picture:\n{_listing(SAMPLERS)}"
SPACING_HELP = (
    f"Which timesteps --steps keeps. By default {', '.join(f'{s} for {name}' for name, s in USUAL_SPACINGS.items())} "
    f"and uniform for others; a --respacing that is no number is always uniform:\n{_listing(SPACINGS)}"
)


def usual_spacing(sampler: str, respacing: str) -> str:
    """The spacing where none is asked for: whatever is no number of steps names its timesteps itself."""
    return USUAL_SPACINGS.get(sampler, "uniform") if respacing.strip().isdecimal() else "uniform"
