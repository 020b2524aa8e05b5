"""Measure one point of a guidance sweep: how faithful and how diverse the pictures are.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.networks.fixed_batch import whole_calls
from glide.shapes.dataset import held_out_scenes, render
from glide.shapes.oracle import Oracle
from glide.utils.images import to_uint8
from guidance.clip.rerank import best_places
from guidance.options import Options
from toolkit.evaluation.diversity import Spread, mean, of_data, saturation
from toolkit.evaluation.oracle_run import drawn
from toolkit.evaluation.prompts import Prompt
from toolkit.evaluation.sweep_results import Point
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig


@dataclass(frozen=True)
class SweepPrompts:
    """The prompts on which every point of a sweep is measured."""

    closed: Sequence[Prompt]
    """Of their pictures the share drawn right is the fidelity."""
    opened: Sequence[Prompt]
    """They leave much open: among several pictures of each the diversity is measured."""
    pictures: int
    """Pictures of each open prompt."""
    best_of: int = 1
    """Pictures of each closed prompt, of which the one that fits it best by a CLIP is judged."""


def measure(
    pipe: Pipeline,
    settings: SamplingConfig,
    prompts: SweepPrompts,
    ranking: Options,
    batch_size: int,
    seed: int,
) -> tuple[Point, Tensor]:
    """The point, still without its name; and the pictures of the open prompts, uint8 [N,H,W,3].

    ranking: names the CLIP of `best_of`.
    """
    closed, opened = prompts.closed, prompts.opened
    candidates = [asked for asked in closed for _ in range(prompts.best_of)]
    several = [asked for asked in opened for _ in range(prompts.pictures)]
    oracle, spread = Oracle(), Spread()
    start = time.perf_counter()
    with counted(pipe, settings) as count:
        pixels = to_uint8(drawn(pipe, settings, [*candidates, *several], batch_size, seed))
    seconds = (time.perf_counter() - start) / len(pixels)
    size = pipe.for_run(len(pixels)).call_size or 1
    calls = count[0] / whole_calls(len(pixels), size)  # places that were filled went through the networks too
    if prompts.best_of > 1:
        drawn_of_closed, drawn_of_open = pixels[: len(candidates)], pixels[len(candidates) :]
        best = best_places(
            pipe.guide_networks.clip(ranking), drawn_of_closed, [one.caption for one in closed]
        )
        pixels = torch.cat([drawn_of_closed[best], drawn_of_open])
    judged = [
        oracle.judge(picture.numpy(), asked.facts)
        for picture, asked in zip(pixels, [*closed, *several], strict=True)
    ]
    right = sum(judgement.all_right for judgement in judged[: len(closed)])
    for i, asked in enumerate(opened):
        first = len(closed) + i * prompts.pictures
        of_caption = judged[first : first + prompts.pictures]
        spread.add(asked.facts, [judgement.reading for judgement in of_caption if judgement.all_right])
    point = Point(
        guidance="",
        scale=math.nan,
        right=right,
        asked=len(closed),
        fidelity=right / len(closed),
        compared=spread.pictures,
        diversity=spread.all,
        position=spread.of("position"),
        size=spread.of("size"),
        color=spread.of("color"),
        background=spread.of("background"),
        saturation=saturation(pixels[: len(closed)]),
        calls=calls,
        seconds=seconds,
    )
    return point, pixels[len(closed) :]


@contextmanager
def counted(pipe: Pipeline, settings: SamplingConfig) -> Iterator[list[int]]:
    """A list of one number, the pictures that went through U-Nets within."""
    count = [0]

    def add(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        count[0] += len(inputs[0])

    nets = [pipe.unet]
    if any(spec.name == "auto" for spec in settings.specs):
        nets.append(pipe.guide_networks.weak(settings.options).unet)
    hooks = [net.register_forward_pre_hook(add) for net in nets]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def data_point(count: int, kinds: Sequence[str], seed: int) -> Point:
    """The data itself, for comparison, from `count` scenes of these kinds; nothing is drawn."""
    diversity = of_data(held_out_scenes(4000, ("one",), seed))
    scenes = held_out_scenes(count, kinds, seed)
    colours = saturation(torch.from_numpy(render(scenes, 64)))
    return Point(
        guidance="data",
        scale=math.nan,
        right=len(scenes),
        asked=len(scenes),
        fidelity=1.0,
        compared=0,
        diversity=mean(diversity.values()),
        position=diversity["position"],
        size=diversity["size"],
        color=diversity["color"],
        background=diversity["background"],
        saturation=colours,
        calls=0.0,
        seconds=0.0,
    )
