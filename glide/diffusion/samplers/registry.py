"""Samplers and spacings by name, what is said of them, and which are the usual ones.

Imports nothing heavy, so that `--help` lists them at once; `guidance.registry` has the functions.
"""

from __future__ import annotations

DEFAULT_SAMPLER = "dpmpp-2m"
DEFAULT_STEPS = 20
"""Defaults of all that draws; an upsampler takes fewer steps."""
UPSAMPLING_STEPS = 8
"""The small picture already shows most of the large one. By these steps the embedded upsampler comes nearer to what
many steps draw than by GLIDE's 27 of DDIM ("fast27"); docs/upsampling.md has the figures."""

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

DEFAULT_SPACINGS = {"dpmpp-2m": "log-snr"}
"""Of the samplers whose steps lie otherwise than "uniform" where nothing is asked for."""

OTHER_NAMES = {
    "dpmpp2m": "dpmpp-2m",
    "dpmsolverpp": "dpmpp-2m",
    "dpmsolver": "dpmpp-2m",
    "dpmsolverpp2m": "dpmpp-2m",
    "dpmpp2msde": "dpmpp-2m-sde",
    "eulera": "euler-ancestral",
    "eulerancestral": "euler-ancestral",
    "pndm": "plms",
    "unipcbh2": "unipc",
    "karras": "karras",
    "exponential": "log-snr",
    "logsnr": "log-snr",
    "linspace": "uniform",
    "sgmuniform": "trailing",
}
"""Other tools' names of samplers and spacings, without what stands between their letters. The exponential spacing of
k-diffusion is even in the logarithm of the noise level, which is log-snr."""

STOCHASTIC = frozenset({"ddpm", "euler-ancestral", "dpmpp-2m-sde"})
"""Those that draw noise on the way: two runs of different steps give different pictures."""


def _listing(table: dict[str, str]) -> str:
    return "\n".join(f"{name}  {words}" for name, words in table.items())


STEPS_HELP = f"Sampling steps. By default {DEFAULT_STEPS}."
SAMPLER_HELP = f"What walks from noise to the picture:\n{_listing(SAMPLERS)}"
SPACING_HELP = (
    f"Which timesteps --steps keeps. By default {', '.join(f'{s} for {name}' for name, s in DEFAULT_SPACINGS.items())} "
    f"and uniform for others; a --respacing that is no number is always uniform:\n{_listing(SPACINGS)}"
)


def known_sampler(text: str) -> tuple[str, str | None]:
    """A sampler as other tools write it, "DPM++ 2M Karras" or "EulerAncestralDiscreteScheduler", by the names here.

    Returns the sampler and the spacing that its name holds. What is no such name is returned as it is.
    """
    if text in SAMPLERS:
        return text, None
    plain = _plain(text)
    for ending in ("scheduler", "multistep", "discrete"):
        plain = plain.removesuffix(ending)
    ending = next((end for end in ("karras", "exponential", "sgmuniform") if plain.endswith(end)), "")
    plain = plain.removesuffix(ending)
    names = {_plain(name): name for name in SAMPLERS} | OTHER_NAMES
    sampler = names.get(plain) or names.get(plain.removeprefix("k"))
    return (sampler, OTHER_NAMES.get(ending)) if sampler in SAMPLERS else (text, None)


def known_spacing(text: str) -> str:
    """A spacing as other tools write it, by the names here; what is no such name as it is."""
    names = {_plain(name): name for name in SPACINGS} | OTHER_NAMES
    found = names.get(_plain(text))
    return found if found in SPACINGS else text


def _plain(name: str) -> str:
    """The letters and digits of a name, "++" as "pp"."""
    return "".join(letter for letter in name.lower().replace("+", "p") if letter.isalnum())


def default_spacing(sampler: str, respacing: str) -> str:
    """The spacing where none is asked for: whatever is no number of steps names its timesteps itself."""
    return DEFAULT_SPACINGS.get(sampler, "uniform") if is_count(respacing) else "uniform"


def is_count(respacing: str) -> bool:
    """True for a respacing that is a number of steps, and no more."""
    return respacing.strip().isdecimal()
