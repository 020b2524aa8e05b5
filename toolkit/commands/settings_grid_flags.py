"""Draw one caption with the values of one setting, or of two: a grid of pictures with the values on its edges.

examples:
    python scripts/settings_grid.py --x scale=1,3,7 --y steps=5,10,20 --out grid.png
    python scripts/settings_grid.py --prompt "a red ring" --x sampler=ddim,dpmpp-2m,unipc --y seed=0,1 --out grid.png
    python scripts/settings_grid.py --x "guidance=none|cfg:3|cfg:3+pag:1@200-800" --out guidances.png
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tyro.conf import arg

from glide.diffusion.samplers.registry import OWN
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.ranges import COUNT, ETA, SCALE, SEED, check_numbers
from guidance.options import DEFAULT_OPTIONS
from guidance.registry import check_read
from toolkit.commands import shared_flags as shared
from toolkit.pipelines.settings import SamplingConfig, respacing_of

MOST_CELLS = 400


def _text(value: str, name: str) -> str:
    return value


def _guidances(value: str, name: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split("+"))


AXES: Mapping[str, Callable[[str, str], Any]] = {
    "prompt": _text,
    "negative": _text,
    "label": _text,
    "model": _text,
    "sampler": _text,
    "spacing": _text,
    "guidance": _guidances,
    "scale": SCALE.read_real,
    "eta": ETA.read_real,
    "steps": COUNT.read_whole,
    "deep_every": COUNT.read_whole,
    "seed": SEED.read_whole,
}
"""Settings that an axis can vary, each with the reader of a value."""


@dataclass(frozen=True)
class Axis:
    """A setting and its values, as they are written and as they are."""

    name: str
    labels: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str, flag: str) -> Axis:
        """Read "NAME=V1,V2,V3", or with | where values hold commas. InputError for an unknown name or a bad value."""
        name, equals, rest = text.partition("=")
        key = name.strip().replace("-", "_")
        if not equals or key not in AXES:
            names = ", ".join(axis.replace("_", "-") for axis in AXES)
            raise InputError(f"got {flag} {text!r}, expected NAME=V1,V2 of one of {names}: write scale=1,3,7")
        labels = tuple(part.strip() for part in rest.split("|" if "|" in rest else ","))
        if not all(labels) and key != "prompt":
            raise InputError(f"got {flag} {text!r} with an empty value, expected V1,V2: give all of them")
        return cls(key, labels, tuple(AXES[key](label, f"{flag} {key}") for label in labels))


@dataclass(frozen=True)
class SettingsGrid:
    """The flags. Every setting is that of all pictures, but for those on the axes."""

    out: Annotated[str, arg(metavar="FILE.png")]
    """The grid. Its metadata holds the settings."""
    x: Annotated[str, arg(metavar="NAME=V1,V2")]
    """A setting and its values, a column each: scale, steps, sampler, spacing, eta, seed, guidance (several joined by
    +), prompt, negative, label, model, deep-every. Values with commas are separated by |."""
    y: Annotated[str | None, arg(metavar="NAME=V1,V2")] = None
    """Another setting, a row for each value."""
    prompt: Annotated[str | None, arg(metavar="TEXT")] = None
    """The caption. By default a built-in one, where the model reads captions."""
    negative: Annotated[str | None, arg(metavar="TEXT")] = None
    """A caption, or a class, to be led away from."""
    label: Annotated[str | None, arg(metavar="CLASS")] = None
    """For class-conditional models: the class, by name or number."""
    model: shared.ModelName = "shapes"
    guidance: shared.GuidanceNames = ()
    scale: shared.Scale = None
    steps: shared.Steps = None
    sampler: shared.SamplerName = OWN
    spacing: shared.Spacing = None
    eta: shared.Eta = 0.0
    deep_every: int = 1
    """Over 1: compute the deep levels of the network at every so many steps only (DeepCache)."""
    seed: int = 0
    """Of all pictures: they begin with the same noise."""
    device: shared.Device = "auto"
    dtype: DType = AUTO
    overwrite: bool = False
    """Replace the file --out."""

    def axes(self) -> tuple[Axis, Axis | None]:
        """The axes. InputError for two of one setting, or more pictures than a grid shows."""
        check_numbers(self)
        x, y = Axis.parse(self.x, "--x"), None if self.y is None else Axis.parse(self.y, "--y")
        if y is not None and x.name == y.name:
            raise InputError(f"got {x.name} on both axes, expected two settings: change one")
        cells = len(x.values) * (1 if y is None else len(y.values))
        if cells > MOST_CELLS:
            raise InputError(
                f"got a grid of {cells} pictures, expected at most {MOST_CELLS}: give fewer values"
            )
        return x, y

    def settings(self, has_null: bool) -> SamplingConfig:
        """The sampling settings of one picture. InputError for values that do not fit."""
        usual = "cfg" if has_null or self.negative is not None else "none"
        options = replace(DEFAULT_OPTIONS, negative=self.negative)
        guidance = self.guidance or usual
        settings = SamplingConfig(
            self.sampler,
            respacing_of(self.steps),
            self.eta,
            guidance,
            self.scale,
            options,
            spacing=self.spacing,
            deep_every=self.deep_every,
        )
        check_read(settings.specs, options.given())
        return settings
