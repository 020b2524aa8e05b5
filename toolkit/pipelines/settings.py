"""The settings of sampling.

Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glide.diffusion.samplers.registry import (
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    OWN,
    UPSAMPLING_STEPS,
    default_spacing,
    is_count,
    translate_sampler,
    translate_spacing,
)
from glide.networks.student_config import StudentConfig
from glide.utils import cli as cli
from glide.utils.errors import InputError
from glide.utils.numbers import shown_number, whole
from glide.utils.picture_size import SIDE, Size
from glide.utils.ranges import ETA, STRENGTH, TEMPERATURE, range_of
from guidance.options import DEFAULT_OPTIONS, Options
from guidance.registry import with_default_scale
from guidance.spec import GuidanceSpec, check_scale

if TYPE_CHECKING:
    from glide.networks.config import ModelConfig


@dataclass(frozen=True)
class SamplingConfig:
    """InputError for numbers out of their range and unknown guidances; samplers, respacings and spacings are checked
    where they are looked up."""

    sampler: str = OWN
    respacing: str = OWN
    """A number of steps, or what else `glide.diffusion.process.respacing` takes."""
    eta: float = 0.0
    """Noise that DDIM adds on the way: 0 (none) to 1 (as much as DDPM)."""
    guidance: str | tuple[str, ...] = "cfg"
    """One or several, each as `guidance.spec` says: "cfg", "cfg:3", "clip:50@0-800"."""
    scale: float | None = None
    """From 0; of the guidances that are written without one. None: their usual one."""
    options: Options = DEFAULT_OPTIONS
    temperature: float = 1.0
    """Multiplies the noise that a picture begins with: a little less than 1 (0.997) is calmer (GLIDE's release)."""
    strength: float = 1.0
    """Above 0, to 1: of the way from noise to the picture, the share that a run with a start picture takes."""
    jump: int = 1
    resamplings: int = 1
    """With known pixels and more than 1: RePaint, which takes every `jump` steps so many times
    (glide/diffusion/repaint.py).
    """
    spacing: str | None = None
    """The spacing of a number of steps (glide/diffusion/timestep_spacing.py). None: the sampler's default.
    """
    deep_every: int = 1
    """Over 1: the deep levels of the network are computed at every so many steps only (glide/networks/deep_cache.py).
    """
    size: Size | None = None
    """(H, W) of the pictures in pixels. None: the model's default.
    """

    def __post_init__(self) -> None:
        self._use_names_here()
        numbers: dict[str, float] = {
            "temperature": TEMPERATURE.real(self.temperature, "the temperature"),
            "eta": ETA.real(self.eta, "eta"),
            "strength": STRENGTH.real(self.strength, "the strength"),
            "jump": whole(self.jump, "the jump", 1),
            "resamplings": whole(self.resamplings, "the resamplings", 1, do="1 is none"),
            "deep_every": range_of(SamplingConfig, "deep_every").whole(self.deep_every, "deep_every"),
        }
        if self.scale is not None:
            numbers["scale"] = check_scale(self.scale)
        if self.size is not None:
            height, width = (SIDE.whole(side, "a side of the size") for side in self.size)
            object.__setattr__(self, "size", (height, width))
        for name, value in numbers.items():  # numpy's as Python's own, as a recipe needs them
            object.__setattr__(self, name, value)
        texts = [self.guidance] if isinstance(self.guidance, str) else self.guidance
        if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
            raise InputError(
                f"got the guidance {shown_number(texts)}, expected one or several as texts: write for example cfg:3"
            )
        if not isinstance(self.guidance, str):
            object.__setattr__(self, "guidance", tuple(texts))
        if not isinstance(self.respacing, str):
            object.__setattr__(self, "respacing", spec_of_steps(self.respacing))
        self.options.check()
        specs = self.specs  # seen now, not in the middle of a run
        if (
            self.scale is not None
            and specs
            and all(GuidanceSpec.parse(text).scale is not None for text in self._texts)
        ):
            raise InputError(
                f"got the scale {self.scale:g}, and guidances that all have their own, expected one or the other: "
                "leave it out"
            )

    def _use_names_here(self) -> None:
        """Replace other tools' names of the sampler and the spacing. InputError for two spacings at once."""
        for what, name in (("sampler", self.sampler), ("spacing", self.spacing)):
            if not isinstance(name, str) and (what, name) != ("spacing", None):
                raise InputError(f"got the {what} {shown_number(name)}, expected its name: give a text")
        sampler, held = translate_sampler(self.sampler)
        asked = None if self.spacing is None else translate_spacing(self.spacing)
        if None not in (held, asked) and held != asked:
            raise InputError(
                f"got the sampler {self.sampler!r} and the spacing {self.spacing!r}, expected one spacing: leave one "
                "out"
            )
        object.__setattr__(self, "sampler", sampler)
        object.__setattr__(self, "spacing", asked if held is None else held)

    def settled(self, config: ModelConfig) -> SamplingConfig:
        """The settings with the sampler, the steps and the spacing of that model where none are asked for."""
        own = config.student or StudentConfig()
        usual = UPSAMPLING_STEPS if config.low_res else DEFAULT_STEPS
        sampler = (own.sampler or DEFAULT_SAMPLER) if self.sampler == OWN else self.sampler
        respacing = str(own.steps or usual) if self.respacing == OWN else self.respacing
        spacing = self.spacing
        if spacing is None and own.spacing and is_count(respacing):
            spacing = own.spacing
        if (sampler, respacing, spacing) == (self.sampler, self.respacing, self.spacing):
            return self
        return replace(self, sampler=sampler, respacing=respacing, spacing=spacing)

    @property
    def spaced(self) -> str:
        """The spacing, the sampler's usual one where none is asked for."""
        return default_spacing(self.sampler, self.respacing) if self.spacing is None else self.spacing

    @property
    def specs(self) -> tuple[GuidanceSpec, ...]:
        """The guidances, each with its scale."""
        return tuple(with_default_scale(GuidanceSpec.parse(text), self.scale) for text in self._texts)

    @property
    def _texts(self) -> tuple[str, ...]:
        return (self.guidance,) if isinstance(self.guidance, str) else self.guidance


def spec_of_steps(steps: int) -> str:
    """A number of steps as a respacing. InputError below 1, and for what is no whole number."""
    number = whole(steps, "the number of steps")
    if number < 1:
        raise InputError(f"got {shown_number(number)} steps, expected at least 1: try {DEFAULT_STEPS}")
    return str(number)


def respacing_of(steps: int | str | None) -> str:
    """A respacing from a number of steps, a respacing, or None for the model's own steps."""
    if steps is None:
        return OWN
    return steps if isinstance(steps, str) else spec_of_steps(steps)


DEFAULT_CONTEXT = 3.0  # lengths of what is masked
