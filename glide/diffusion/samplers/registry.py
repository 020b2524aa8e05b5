"""Samplers and spacings by name, with their defaults: built-in samplers and those of other installed packages.

Imports nothing heavy, so that `--help` lists them quickly; a sampler's function is imported when it is used. A package
adds a sampler by an entry point of the group "glide.samplers" (docs/solvers.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.denoiser import Denoiser, Variance
    from glide.diffusion.process import Process
    from glide.diffusion.samplers.base import Noise

GROUP = "glide.samplers"

DEFAULT_SAMPLER = "dpmpp-2m"
DEFAULT_STEPS = 20
"""Default of everything that draws; an upsampler takes fewer steps."""
OWN = "auto"
"""In place of a sampler, or of a number of steps: those of a distilled model, else these two."""
UPSAMPLING_STEPS = 8
"""The small picture already shows most of the large one. By these steps the embedded upsampler comes nearer to the
result of many steps than by GLIDE's 27 of DDIM ("fast27"); docs/upsampling.md has the figures."""


@dataclass(frozen=True)
class Sampler:
    """A sampler that can be chosen by name."""

    name: str
    function: str
    """Where it is, "module:name": a generator as `glide.diffusion.samplers.base` describes."""
    words: str
    """For --help."""
    order: int | None = None
    """Of convergence; None where it is unknown, and for `ddpm` and `euler-ancestral`."""
    spacing: str = "uniform"
    """The default spacing of its steps."""
    draws_noise: bool = False
    """True if it always draws noise, so runs of different steps give different pictures: it receives `noise`."""
    takes_eta: bool = False
    """True if `eta` sets the noise that it draws: it receives `noise` and `eta`."""
    takes_variance: bool = False
    """True if it uses the model's variance: it receives `variance`."""
    aliases: tuple[str, ...] = ()
    """Other tools' names, in lower case and without separators ("+" is "p")."""

    def run(
        self, process: Process, denoise: Denoiser, x: Tensor, noise: Noise, *, eta: float, variance: Variance
    ) -> Iterator[Tensor]:
        """Sample from x [N,C,H,W] ~ N(0, I); yields x after each of the process's steps.

        The function receives those of `noise`, `eta` and `variance` that it takes. InputError for an eta other than 0
        where it takes none, and for a function that cannot be loaded.
        """
        if eta and not self.takes_eta:
            raise InputError(
                f"got eta {eta} for the sampler {self.name}, which has none: leave it out, or use ddim"
            )
        values = {"noise": noise, "eta": eta, "variance": variance}
        return self.load()(process, denoise, x, **{name: values[name] for name in self._keywords()})

    def load(self) -> Callable[..., Iterator[Tensor]]:
        """Import the function. InputError where that fails, or where it does not take the sampler's arguments."""
        function: Callable[..., Iterator[Tensor]]
        function = load_plug_in(EntryPoint(self.name, self.function, GROUP), "sampler")
        try:
            inspect.signature(function).bind("process", "denoise", "x", **dict.fromkeys(self._keywords()))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"the sampler {self.name!r} cannot be loaded from {self.function} ({error}): install its package again"
            ) from error
        return function

    def _keywords(self) -> list[str]:
        takes: dict[str, Any] = {
            "noise": self.draws_noise or self.takes_eta,
            "eta": self.takes_eta,
            "variance": self.takes_variance,
        }
        return [name for name, taken in takes.items() if taken]


PACKAGE = "glide.diffusion.samplers"

SAMPLERS = {
    sampler.name: sampler
    for sampler in (
        Sampler(
            "ddim",
            f"{PACKAGE}.ddpm_ddim:ddim",
            "DDIM; --eta adds noise",
            order=1,
            takes_eta=True,
        ),
        Sampler(
            "ddpm",
            f"{PACKAGE}.ddpm_ddim:ancestral",
            "DDPM: noise at every step, with the model's own variance; for many steps",
            draws_noise=True,
            takes_variance=True,
        ),
        Sampler(
            "euler",
            f"{PACKAGE}.euler_heun:euler",
            "DDIM as EDM writes it",
            order=1,
        ),
        Sampler(
            "heun",
            f"{PACKAGE}.euler_heun:heun",
            "EDM's; two network calls a step",
            order=2,
        ),
        Sampler(
            "euler-ancestral",
            f"{PACKAGE}.euler_heun:euler_ancestral",
            "euler with noise at every step",
            draws_noise=True,
            aliases=("eulera", "eulerancestral"),
        ),
        Sampler(
            "plms",
            f"{PACKAGE}.linear_multistep:plms",
            "PNDM's, from four predictions; one more network call than steps",
            order=2,
            aliases=("pndm",),
        ),
        Sampler(
            "lms",
            f"{PACKAGE}.linear_multistep:lms",
            "K-LMS, from four predictions",
            order=4,
        ),
        Sampler(
            "dpmpp-2m",
            f"{PACKAGE}.dpm_solver:dpmpp_2m",
            "DPM-Solver++, from two predictions",
            order=2,
            spacing="log-snr",
            aliases=("dpmpp2m", "dpmsolver", "dpmsolverpp", "dpmsolverpp2m"),
        ),
        Sampler(
            "dpmpp-2m-sde",
            f"{PACKAGE}.dpm_solver:dpmpp_2m_sde",
            "the same with noise at every step",
            order=2,
            draws_noise=True,
            aliases=("dpmpp2msde",),
        ),
        Sampler(
            "consistency",
            f"{PACKAGE}.consistency:consistency",
            "to the picture and back to less noise; for students of consistency tuning",
            spacing="trailing",
            draws_noise=True,
        ),
        Sampler(
            "unipc",
            f"{PACKAGE}.unipc:unipc",
            "UniPC, from two predictions; the next one corrects each step",
            order=3,
            aliases=("unipcbh2",),
        ),
    )
}
"""Built-in samplers, in the order in which --help and messages name them (papers and quality: docs/solvers.md)."""

SPACINGS = {
    "uniform": "even strides, both ends included",
    "trailing": "even strides, the last one down to the picture",
    "quadratic": "denser towards the picture",
    "trailing-quadratic": "the same, the last one down to the picture; for students",
    "log-snr": "even in the logarithm of the signal-to-noise ratio",
    "karras": "EDM's, denser towards the picture",
}
"""`glide.diffusion.timestep_spacing` has their formulas."""

SPACING_ALIASES = {
    "karras": "karras",
    "exponential": "log-snr",
    "logsnr": "log-snr",
    "linspace": "uniform",
    "sgmuniform": "trailing",
}
"""Other tools' names of spacings, written as `Sampler.aliases` are. The exponential spacing of k-diffusion is even in
the logarithm of the noise level, which is log-snr."""

STEPS_HELP = f"Sampling steps. By default {DEFAULT_STEPS}, or as many as a distilled model was made for."


def all_samplers() -> dict[str, Sampler]:
    """All samplers by name: the built-in ones, then those of other packages. A package cannot take a built-in name."""
    found = dict(SAMPLERS)
    for name, entry in plug_ins(GROUP).items():
        owner = entry.dist.name if entry.dist is not None else entry.value
        # it receives a source of noise, and so may draw some
        found.setdefault(name, Sampler(name, entry.value, f"of the package {owner}", draws_noise=True))
    return found


def find_sampler(name: str) -> Sampler:
    """The sampler of that name. InputError, naming all there are, where there is none."""
    sampler = SAMPLERS.get(name) or all_samplers().get(name)
    if sampler is None:
        raise InputError(
            f"got the sampler {name!r}, expected {' or '.join(all_samplers())}: choose one of these"
        )
    return sampler


def check_spacing(name: str) -> None:
    """InputError, naming all there are, for a spacing that there is not."""
    if name not in SPACINGS:
        raise InputError(f"got the spacing {name!r}, expected {' or '.join(SPACINGS)}: choose one of these")


def sampler_help() -> str:
    """For --help: all samplers, a line each."""
    lines = {
        name: sampler.words if sampler.order is None else f"order {sampler.order}; {sampler.words}"
        for name, sampler in all_samplers().items()
    }
    return (
        f"The sampler, which turns noise into the picture. {OWN} is {DEFAULT_SAMPLER}, or that of a distilled model:\n"
        f"{_listing(lines)}"
    )


def spacing_help() -> str:
    """For --help: all spacings, a line each, and the defaults."""
    own = [f"{one.spacing} for {name}" for name, one in all_samplers().items() if one.spacing != "uniform"]
    return (
        f"Which timesteps --steps keeps. By default {', '.join(own)} "
        f"and uniform for others; a --respacing that is no number is always uniform:\n{_listing(SPACINGS)}"
    )


def _listing(table: dict[str, str]) -> str:
    return "\n".join(f"{name}  {words}" for name, words in table.items())


def translate_sampler(text: str) -> tuple[str, str | None]:
    """A sampler as other tools write it, "DPM++ 2M Karras" or "EulerAncestralDiscreteScheduler", by its name here.

    Returns the sampler and the spacing that is part of the text. A text that is no such name is returned unchanged.
    """
    if text in all_samplers():
        return text, None
    plain = _plain(text)
    for ending in ("scheduler", "multistep", "discrete"):
        plain = plain.removesuffix(ending)
    ending = next((end for end in ("karras", "exponential", "sgmuniform") if plain.endswith(end)), "")
    plain = plain.removesuffix(ending)
    names = {_plain(name): name for name in all_samplers()}
    names |= {alias: name for name, sampler in all_samplers().items() for alias in sampler.aliases}
    sampler = names.get(plain) or names.get(plain.removeprefix("k"))
    return (text, None) if sampler is None else (sampler, SPACING_ALIASES.get(ending))


def translate_spacing(text: str) -> str:
    """A spacing as other tools write it, by its name here. A text that is no such name is returned unchanged."""
    names = {_plain(name): name for name in SPACINGS} | SPACING_ALIASES
    return names.get(_plain(text), text)


def _plain(name: str) -> str:
    """The letters and digits of a name in lower case, "++" as "pp"."""
    return "".join(letter for letter in name.lower().replace("+", "p") if letter.isalnum())


def default_spacing(sampler: str, respacing: str) -> str:
    """The spacing where none is given: a respacing that is no number of steps names its timesteps itself."""
    if not is_count(respacing) or sampler not in all_samplers():
        return "uniform"
    return all_samplers()[sampler].spacing


def is_count(respacing: str) -> bool:
    """True for a respacing that is a plain number of steps."""
    return respacing.strip().isdecimal()
