"""The request for pictures that a browser or a program sends: read from JSON, every value checked.

Imports nothing heavy: requests are refused before torch is there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from glide.diffusion.samplers.registry import OWN
from glide.utils.errors import InputError
from glide.utils.numbers import Range
from glide.utils.ranges import ETA, SEED, STRENGTH, kinds, range_of
from guidance.options import DEFAULT_OPTIONS, Options
from guidance.registry import check_read
from toolkit.pipelines.recipe_reader import is_embedded
from toolkit.pipelines.settings import DEFAULT_CONTEXT, SamplingConfig
from toolkit.web.json_fields import Fields

METHODS = ("model", "repaint", "replace")  # of toolkit/pipelines/inpaint.py, which imports torch
KINDS = ("draw", "edit", "enlarge", "explain")
TRANSPARENCY = "transparency"
"""In place of a mask's id: the picture's own transparency."""
MOST_PICTURES = 32  # of one request
MOST_STEPS = 1000
LONGEST_GUIDANCE = 2000  # characters: a strength may be a table
MOST_WIDER = 4096  # pixels by which a side is moved outwards
NETWORKS = ("weak", "classifier", "clip")
"""Options that name a network: only embedded ones are opened for a browser."""
PATHS = ("clip_vocab",)
"""Options that name a file or a folder: none is opened for a browser."""


@dataclass(frozen=True)
class DrawRequest:
    """All that one job draws."""

    kind: str = "draw"
    model: str = ""
    """Its label on this server; "" is the first one."""
    caption: str = ""
    label: str | None = None
    size: int | None = None
    """Of the enlarged pictures; None is the model's own."""
    seed: int = 0
    count: int = 1
    sampler: str = OWN
    respacing: str = OWN
    spacing: str | None = None
    eta: float = 0.0
    guidance: tuple[str, ...] | None = None
    """None: classifier-free guidance where the model knows it."""
    options: Options = DEFAULT_OPTIONS
    image: str | None = None
    """Id of the picture that is edited, that the run begins with, or that is enlarged."""
    mask: str | None = None
    """Id of the mask's picture, in which white is painted, or TRANSPARENCY."""
    strength: float = 1.0
    method: str | None = None
    context: float = DEFAULT_CONTEXT
    extend: tuple[int, ...] = (0, 0, 0, 0)
    """Pixels by which the picture grows: left, top, right, bottom."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Ids of pictures that the model is conditioned on, by their kinds."""
    call_size: int | None = None
    place: int = 0
    """Of the network call (glide/networks/fixed_batch.py), to repeat a picture bit for bit."""
    preview: bool = True

    def settings(self, has_null: bool) -> SamplingConfig:
        """The sampling settings, with the defaults of scripts/sample.py and scripts/inpaint.py.

        has_null: the model knows classifier-free guidance. InputError for bad values.
        """
        conditioned = self.kind != "edit" or bool(self.caption or self.label is not None)
        usual = "cfg" if (has_null and conditioned) or self.options.negative is not None else "none"
        guidance: str | tuple[str, ...] = usual if self.guidance is None else self.guidance or "none"
        settings = SamplingConfig(
            self.sampler,
            self.respacing,
            self.eta,
            guidance,
            options=self.options,
            strength=self.strength,
            spacing=self.spacing,
        )
        check_read(settings.specs, self.options.given())
        return settings


def random_seed() -> int:
    """A seed that JavaScript can write as a number."""
    return secrets.randbelow(2**31)


def read_request(values: object, models: tuple[str, ...], where: str = "the request") -> DrawRequest:
    """A request in a browser's JSON. models: the labels of this server. InputError for anything that does not fit."""
    of = Fields(values, where)
    kind = of.choice("kind", KINDS, "draw") or "draw"
    image = of.text("image", None, 100)
    begins = image is not None and kind in ("draw", "explain")
    seed = of.whole("seed", Range(SEED.low, SEED.high - MOST_PICTURES), None)
    request = DrawRequest(
        kind=kind,
        model=of.choice("model", models, models[0]) or models[0],
        caption=(of.text("caption", "") or "").strip(),
        label=of.text("label", None, 200) or None,
        size=of.whole("size", Range(1, 16384), None),
        seed=random_seed() if seed is None else seed,
        count=of.whole("count", Range(1, MOST_PICTURES, do="ask for more by another request"), 1),
        sampler=of.text("sampler", OWN, 100) or OWN,
        respacing=_respacing(of),
        spacing=of.text("spacing", None, 100) or None,
        eta=of.real("eta", ETA, 0.0),
        guidance=of.texts("guidance", longest=LONGEST_GUIDANCE),
        options=_options(of.table("options"), of.text("negative") or None),
        image=image,
        mask=of.text("mask", None, 100),
        strength=of.real("strength", STRENGTH, 0.6 if begins else 1.0),
        method=of.choice("method", METHODS),
        context=of.real("context", Range(1.0, 1e6), DEFAULT_CONTEXT),
        extend=of.wholes("extend", 4, Range(0, MOST_WIDER)) or (0, 0, 0, 0),
        conditions=_conditions(of.table("conditions")),
        call_size=of.whole("call_size", Range(1, 64), None),
        place=of.whole("place", Range(0, 10_000), 0),
        preview=of.flag("preview", True),
    )
    of.end()
    return checked(request)


def checked(request: DrawRequest) -> DrawRequest:
    """The request itself. InputError for fields that exclude or need each other, and for settings out of range."""
    if request.kind in ("edit", "enlarge") and request.image is None:
        raise InputError(f"got a request to {request.kind} without a picture, expected one: give image")
    if request.strength < 1.0 and request.image is None:
        raise InputError(
            f"got the strength {request.strength:g} without a picture to begin with, expected one: give image, or "
            "strength 1"
        )
    if request.kind == "edit" and request.mask is None and not any(request.extend):
        raise InputError("got a picture to edit without a mask, expected one: paint what is to change")
    request.settings(has_null=True)
    return request


def _respacing(of: Fields) -> str:
    """A number of steps, or a respacing in the words of the command line."""
    steps = of.values.get("steps")
    if isinstance(steps, str) and not steps.strip().isdecimal():
        return of.text("steps", "", 100) or OWN
    found = of.whole("steps", Range(1, MOST_STEPS), None)
    return OWN if found is None else str(found)


def _options(of: Fields, negative: str | None) -> Options:
    """Options of guidances. InputError for one that would open a file of the server's."""
    numbers, found = kinds(Options), {}
    for option in fields(Options):
        name = option.name
        if not of.has(name):
            continue
        if name in numbers:
            found[name] = of.real(name, range_of(Options, name))
            continue
        value = of.text(name, None, 200)
        if name in PATHS or (name in NETWORKS and not is_embedded(str(value))):
            raise InputError(
                f"got the option {name} {value!r}, expected the name of an embedded network: the server opens no "
                "file for a browser"
            )
        found[name] = value
    of.end()
    if negative is not None:
        found["negative"] = negative
    options = Options(**found)
    options.check()
    return options


def _conditions(of: Fields) -> dict[str, str]:
    found = {str(name): of.text(name, None, 100) or "" for name in of.values}
    if len(found) > 8:
        raise InputError(f"got {len(found)} pictures as conditions, expected at most 8: leave some out")
    return found
