"""Fidelity of inpainting: the oracle judges what was painted into a masked corner of a built-in scene.

Shape letters: N scenes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from glide.networks.image_request import ImageRequest, KnownPixels
from glide.shapes.dataset import VISIBLE_COLORS, held_out_scenes, render
from glide.shapes.oracle import Oracle, Reading, read_scene
from glide.shapes.scene import POSITIONS, SHAPES, Scene, Thing, make_facts, write_caption
from glide.utils.images import to_uint8
from toolkit.pipelines.inpaint import Plan
from toolkit.pipelines.inpaint_region import Unknown, shown
from toolkit.pipelines.pipeline import Pipeline

CORNERS = tuple(phrase for phrase in POSITIONS if "corner" in phrase)
SIDE = 0.5  # of the masked square: the largest thing in a corner ends just before
QUESTIONS = ("there", "color", "shape", "right", "position", "count")
"""Of the asked thing: one is there, of that colour, of that shape, of both; it is where the oracle finds that corner,
too; and nothing else has come or gone."""


@dataclass(frozen=True)
class Case:
    """A scene, and the thing to paint into a corner of it. kind: "alone" or "beside" the scene's own thing."""

    scene: Scene
    kind: str
    corner: str
    shape: str
    color: str

    @property
    def caption(self) -> str:
        return write_caption(make_facts(1, [(None, self.color, self.shape)], position=self.corner))

    def unknown(self, size: int) -> Unknown:
        """[H,W] of a picture of H = W = size: the corner's quarter."""
        (left, right), (top, bottom) = (_ends(cell) for cell in POSITIONS[self.corner])
        mask = np.zeros((size, size), bool)
        mask[round(top * size) : round(bottom * size), round(left * size) : round(right * size)] = True
        return mask

    def covers(self, x: float, y: float) -> bool:
        """True if a point of the picture, 0 to 1, lies in the corner."""
        ends = (_ends(cell) for cell in POSITIONS[self.corner])
        return all(low <= at < high for at, (low, high) in zip((x, y), ends, strict=True))


def _ends(cell: int) -> tuple[float, float]:
    return (0.0, SIDE) if cell == 0 else (1.0 - SIDE, 1.0)


def cases(count: int, seed: int = 0) -> list[Case]:
    """Held-out scenes with random corners, shapes and colours, every other one with a thing of its own that stays.

    The caption speaks of the asked thing alone, and leaves background and size open.
    """
    rng = np.random.default_rng((seed, 0x1A9A))
    found: list[Case] = []
    source = iter(held_out_scenes(8 * count + 8, ("one",), seed))
    while len(found) < count:
        scene = next(source)
        (thing,) = scene.things
        beside = len(found) % 2 == 1
        free = [corner for corner in CORNERS if not beside or _outside(thing, corner)]
        if not free:
            continue
        corner = free[rng.integers(len(free))]
        shape = SHAPES[rng.integers(len(SHAPES))]
        colors = [name for name in VISIBLE_COLORS[scene.background] if not beside or name != thing.color]
        color = colors[rng.integers(len(colors))]
        there = scene if beside else replace(scene, things=())
        found.append(Case(there, "beside" if beside else "alone", corner, shape, color))
    return found


def _outside(thing: Thing, corner: str) -> bool:
    column, row = POSITIONS[corner]
    gaps = ((thing.x, column), (thing.y, row))
    return any(at - thing.radius >= SIDE if cell == 0 else at + thing.radius <= 1 - SIDE for at, cell in gaps)


@dataclass(frozen=True)
class Answer:
    """A painted scene, uint8 [H,W,3], and for each of QUESTIONS whether it holds."""

    case: Case
    pixels: Tensor
    holds: dict[str, bool]


def judge(case: Case, reading: Reading) -> dict[str, bool]:
    """For each of QUESTIONS whether it holds in what the oracle has read."""
    inside = [thing for thing in reading.things if case.covers(thing.x, thing.y)]
    right = [thing for thing in inside if (thing.shape, thing.color) == (case.shape, case.color)]
    return {
        "there": bool(inside),
        "color": any(thing.color == case.color for thing in inside),
        "shape": any(thing.shape == case.shape for thing in inside),
        "right": bool(right),
        "position": any(thing.position == case.corner for thing in right),
        "count": len(reading.things) == len(read_scene(case.scene).things) + 1,
    }


def paint_and_judge(
    pipe: Pipeline, found: Sequence[Case], plan: Plan, batch_size: int = 32, seed: int = 0
) -> Iterator[Answer]:
    """Each case painted as `plan` says, at the model's size (case i with seed `seed + i`), and judged."""
    oracle, size = Oracle(), plan.small
    for start in range(0, len(found), batch_size):
        part = found[start : start + batch_size]
        scenes = render([case.scene for case in part], size)
        pictures = []
        for i, (case, rgb) in enumerate(zip(part, scenes, strict=True)):
            image, known = shown(plan.region, rgb, case.unknown(size), size)
            given = KnownPixels(image=image, mask=known, visible=plan.method == "model")
            pictures.append(ImageRequest(seed + start + i, case.caption, given=given))
        for step in pipe.draw(pictures, plan.settings):
            last = step
        for case, rgb, pixels in zip(part, scenes, to_uint8(last.x), strict=True):
            stays = torch.from_numpy(~case.unknown(size))
            if last.x is not last.latents:  # a decoder gives back nearly what was encoded
                pixels[stays] = torch.from_numpy(rgb)[stays]
            assert torch.equal(pixels[stays], torch.from_numpy(rgb)[stays])  # known pixels are the scene's
            yield Answer(case, pixels, judge(case, oracle.read(pixels.numpy())))


def table(answers: Sequence[Answer]) -> str:
    """Percent of the cases in which each of QUESTIONS holds, by kind of case and of all."""
    lines = [" | ".join(["| scenes", "pictures", *QUESTIONS]) + " |", "|---" * (2 + len(QUESTIONS)) + "|"]
    for kind in ("alone", "beside", "all"):
        of_kind = [answer for answer in answers if kind in (answer.case.kind, "all")]
        if of_kind:
            shares = [sum(a.holds[question] for a in of_kind) / len(of_kind) for question in QUESTIONS]
            cells = [f"{100 * share:.1f}" for share in shares]
            lines.append(" | ".join([f"| {kind}", str(len(of_kind)), *cells]) + " |")
    return "\n".join(lines)
