"""The same work by other packages, where they are installed: the same sizes, random weights, each in its own way.

They are imported for this alone, and nothing needs them.
"""

from __future__ import annotations

import importlib.util
from statistics import median

import torch

from benchmarks.measure.machine import Memory, begin, bytes_of, version
from benchmarks.measure.networks import CONFIGS, fill_
from benchmarks.measure.original import STEPS, original_dtype
from benchmarks.measure.other_diffusers import diffusers
from benchmarks.measure.other_openai import glide_text2im, guided_diffusion
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Measured
from benchmarks.measure.turns import Turns, steps_needed, turns
from benchmarks.measure.wanted import Maker, Wanted
from benchmarks.measure.work import counted

PACKAGES: dict[str, Maker] = {
    "glide_text2im": glide_text2im,
    "guided_diffusion": guided_diffusion,
    "diffusers": diffusers,
}

UNLIKE = {"guided_diffusion": " (a class in place of the caption)"}
"""By package, the difference of its network of the same sizes, as it is printed."""


def measure_other(plan: Plan, package: str, case: str, dtype: str, batch: int) -> Turns:
    """Steps of a network of the sizes of ours in that package; which is installed."""
    device = begin(plan)
    wanted = Wanted(CONFIGS[plan.size][case], batch, steps_needed(plan, device), dtype, device)
    memory = Memory(device)
    network, draw = PACKAGES[package](wanted)
    fill_(network, plan.seed)
    memory.loaded()
    rounds = yield from turns(plan, draw(), device)
    peak = memory.done()
    work = counted(lambda: next(draw()))
    name = f"{package} {version(package.replace('_', '-'))}".rstrip() + UNLIKE.get(package, "")
    weights = bytes_of([network])
    return Measured(case, name, dtype, batch, median(rounds), work, weights, peak, STEPS[case], rounds)


def installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def dtypes_of(package: str, device: torch.device, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The types a package is run in: the originals in float32, or float16 on a GPU; diffusers in anything."""
    return asked if package == "diffusers" else (original_dtype(device),)
