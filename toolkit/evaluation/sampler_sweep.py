"""The points of a sweep over samplers: their lines, network calls and errors.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glide.diffusion.denoiser import Prediction
from glide.diffusion.process import Process
from glide.diffusion.samplers.registry import check_spacing, find_sampler
from glide.diffusion.timestep_spacing import space_timesteps
from glide.shapes.oracle import Oracle
from glide.utils.errors import InputError
from glide.utils.ranges import COUNT
from toolkit.evaluation.prompts import Prompt
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps

LINE = re.compile(r"([a-z0-9-]+?)(?::(\d+))?(?:@([a-z-]+))?")


@dataclass(frozen=True)
class Line:
    """One sampler of a sweep."""

    text: str
    sampler: str
    calls: int | None
    """Network calls for a picture. None: all those of the sweep."""
    spacing: str | None

    @classmethod
    def parse(cls, text: str) -> Line:
        """NAME[:CALLS][@SPACING]. InputError for another form, and for unknown names."""
        match = LINE.fullmatch(text)
        if match is None:
            raise InputError(
                f"got the solver {text!r}, expected NAME, NAME:CALLS or NAME:CALLS@SPACING: try heun@karras"
            )
        name, calls, spacing = match.groups()
        find_sampler(name)
        if spacing is not None:
            check_spacing(spacing)
        count = None if calls is None else COUNT.read_whole(calls, f"the solver {name} with the calls")
        return cls(text, name, count, spacing)


def plan(
    lines: Sequence[Line], calls: Sequence[int], usual: SamplingConfig, process: Process
) -> list[tuple[str, SamplingConfig]]:
    """The points, each with its line's name: the usual settings with the sampler, spacing and steps of the point."""
    found = []
    for line in lines:
        for budget in calls if line.calls is None else (line.calls,):
            settings = replace(usual, sampler=line.sampler, spacing=line.spacing, respacing="1")
            steps = most_steps(process, settings, budget)
            found.append((line.text, replace(settings, respacing=spec_of_steps(steps))))
    return found


def most_steps(process: Process, settings: SamplingConfig, budget: int) -> int:
    """The most steps that a sampler can take within this many network calls, at least 1."""
    for steps in range(min(budget, len(process)), 1, -1):
        kept = space_timesteps(process, str(steps), replace(settings, respacing=str(steps)).spaced)
        if network_calls(process.respaced(kept), settings.sampler) <= budget:
            return steps
    return 1


def network_calls(process: Process, sampler: str) -> int:
    """Count the network calls of a sampler over this (respaced) process, on a single pixel."""
    count = 0

    def denoise(x: Tensor, t: int) -> Prediction:
        nonlocal count
        count += 1
        return Prediction(torch.zeros_like(x))

    x = torch.zeros(1, 1, 1, 1)
    run = find_sampler(sampler).run(process, denoise, x, torch.zeros_like, eta=0.0, variance="fixed_small")
    for _ in run:
        pass
    return count


def count_right(pixels: Tensor, asked: Sequence[Prompt]) -> int:
    """The number of pictures, uint8 [N,H,W,3], that show all facts of their prompts, by the oracle."""
    oracle = Oracle()
    return sum(
        oracle.judge(picture.numpy(), one.facts).all_right for picture, one in zip(pixels, asked, strict=True)
    )


def rms(x: Tensor) -> float:
    """Root mean square of all values."""
    return math.sqrt(x.double().square().mean().item())
