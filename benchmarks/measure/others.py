"""The same work by other packages, where they are installed: the same sizes, random weights, each in its own way.

They are imported for this alone, and nothing needs them.
"""

from __future__ import annotations

import importlib.util
from statistics import median

import torch

from benchmarks.measure.drawing import WARM_UP
from benchmarks.measure.machine import Memory, begin, bytes_of, step_seconds, version
from benchmarks.measure.networks import CONFIGS, fill_
from benchmarks.measure.original import STEPS, original_dtype
from benchmarks.measure.other_diffusers import diffusers
from benchmarks.measure.other_openai import glide_text2im, guided_diffusion
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Measured
from benchmarks.measure.wanted import Maker, Wanted
from benchmarks.measure.work import counted

PACKAGES: dict[str, Maker] = {
    "glide_text2im": glide_text2im,
    "guided_diffusion": guided_diffusion,
    "diffusers": diffusers,
}


def measure_other(plan: Plan, package: str, case: str, dtype: str, batch: int) -> list[Found]:
    """Steps of a network of the sizes of ours in that package; which is installed."""
    device = begin(plan)
    steps = plan.repeats + 1 + WARM_UP
    wanted = Wanted(CONFIGS[plan.size][case], batch, steps, dtype, device)
    memory = Memory(device)
    network, draw = PACKAGES[package](wanted)
    fill_(network, plan.seed)
    memory.loaded()
    seconds = median(step_seconds(draw(), device, WARM_UP))
    peak = memory.done()
    work = counted(lambda: next(draw()))
    return [
        Measured(
            case,
            f"{package} {version(package.replace('_', '-'))}".rstrip(),
            dtype,
            batch,
            seconds,
            work,
            bytes_of([network]),
            peak,
            STEPS[case],
        )
    ]


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def dtypes_of(package: str, device: torch.device, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The type a package is run in: the originals in float32, or float16 on a GPU; diffusers in anything."""
    return asked if package == "diffusers" else (original_dtype(device),)
