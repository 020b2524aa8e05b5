"""Prompts of a sweep: captions or classes of the built-in scenes, each with the facts that must hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glide.shapes.dataset import held_out_scenes
from glide.shapes.scene import (
    BACKGROUNDS,
    COLORS,
    POSITIONS,
    SHAPES,
    SPOKEN_SIZES,
    Fact,
    make_facts,
    write_caption,
)
from glide.utils.class_names import HasClasses
from glide.utils.errors import InputError


@dataclass(frozen=True)
class Prompt:
    """One thing to draw."""

    facts: tuple[Fact, ...]
    caption: str = ""
    label: int | None = None


def held_out(count: int, kinds: Sequence[str], seed: int) -> list[Prompt]:
    """Captions that no training saw."""
    return [Prompt(scene.facts, scene.caption) for scene in held_out_scenes(count, kinds, seed)]


def open_captions(count: int, seed: int) -> list[Prompt]:
    """Captions of one thing, its shape and at most one more fact; all else is left open."""
    rng = np.random.default_rng((seed, 0x09E4))
    found = []
    for i in range(count):
        shape, size = str(rng.choice(SHAPES)), str(rng.choice(SPOKEN_SIZES))
        color, position = str(rng.choice(list(COLORS))), str(rng.choice(list(POSITIONS)))
        background = str(rng.choice(list(BACKGROUNDS)))
        says = ("nothing more", "size", "color", "position", "background")[i % 5]
        noun = (size if says == "size" else None, color if says == "color" else None, shape)
        facts = make_facts(
            1,
            [noun],
            position=position if says == "position" else None,
            background=background if says == "background" else None,
        )
        found.append(Prompt(facts, write_caption(facts)))
    return found


def classes(known: HasClasses) -> list[Prompt]:
    """One for each class; right is a picture with a thing of that shape, or colour. InputError for other classes."""
    kinds = {**dict.fromkeys(SHAPES, "shape"), **dict.fromkeys(COLORS, "color")}
    strange = [name for name in known.class_names if name not in kinds]
    if strange or not known.class_names:
        raise InputError(
            f"got classes that the oracle cannot judge ({', '.join(strange) or 'without names'}), expected shapes or "
            "colours of the built-in scenes: sweep a classifier of the data set shapes"
        )
    return [Prompt((Fact(kinds[name], name),), label=i) for i, name in enumerate(known.class_names)]
