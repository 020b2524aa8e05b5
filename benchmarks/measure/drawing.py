"""Drawing with the networks of this project: steps, and whole pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from torch import nn

from benchmarks.measure.machine import Memory, begin, bytes_of, timed
from benchmarks.measure.networks import CAPTION
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Measured, Note, Spent
from benchmarks.measure.turns import Turns, steps_needed, turns
from benchmarks.measure.work import call_work
from glide.networks.fixed_batch import default_call_size
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.errors import InputError
from glide.utils.images import to_uint8
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import DEFAULT_CONFIG, Upscaler
from upsampler.presets import EMBEDDED, check_upsampler
from upsampler.tiling import in_tiles

FEW = "2"  # steps that warm up before a whole picture


def load(plan: Plan, name: str | Path, device: torch.device, dtype: str, call_size: int | None) -> Pipeline:
    """A model as scripts/sample.py loads it, an upsampler without tiles."""
    return Pipeline.from_pretrained(name, device, dtype, call_size, compiles=plan.compile)


def load_stage(plan: Plan, name: str | Path, device: torch.device, dtype: str) -> Upscaler:
    """An upsampler as `Upscaler.load` loads it. InputError where there is none of that name."""
    pipe = Pipeline.from_pretrained(
        name, device, dtype, 1, wrap=in_tiles, places=(EMBEDDED,), compiles=plan.compile
    )
    check_upsampler(pipe.model.config, str(name))
    return Upscaler(pipe, usual(plan, pipe))


def usual(plan: Plan, pipe: Pipeline) -> SamplingConfig:
    """Settings for whole pictures: those of scripts/sample.py, but for the flags."""
    low_res = pipe.model.config.low_res
    settings = DEFAULT_CONFIG if low_res else SamplingConfig()
    steps = plan.upsampler_steps if low_res else plan.base_steps
    return replace(
        settings,
        respacing=steps or settings.respacing,
        sampler=plan.sampler or settings.sampler,
        guidance=settings.guidance if pipe.conditioner.has_null else "none",
    )


def one_call_a_step(plan: Plan, pipe: Pipeline, steps: int) -> SamplingConfig:
    """So many steps of a sampler that calls the network once in each, guided where whole pictures are."""
    return SamplingConfig("ddim", str(steps), guidance=usual(plan, pipe).guidance)


def evaluations(pipe: Pipeline, settings: SamplingConfig) -> int:
    """Evaluations of the network for each picture and step: two with classifier-free guidance."""
    return 1 + any(spec.name == "cfg" for spec in settings.specs)


def pictures_of(model: Model, batch: int, seed: int) -> list[ImageRequest]:
    """Pictures to draw; the pictures that an upsampler enlarges are random, too."""
    generator = torch.Generator().manual_seed(seed)
    caption = CAPTION if model.config.reads_captions else ""
    label = 0 if model.config.num_classes else None
    side = model.config.low_res_size
    made = []
    for i in range(batch):
        low_res = 2 * torch.rand(3, side, side, generator=generator) - 1 if model.config.low_res else None
        made.append(ImageRequest(seed + i, caption, label, KnownPixels(low_res=low_res)))
    return made


def held_by(pipe: Pipeline) -> list[nn.Module]:
    """The parts of a pipeline that draw: the U-Net in its type and the encoders."""
    return [pipe.unet, *(part for name, part in pipe.model.named_children() if name != "unet")]


def draw_steps(plan: Plan, case: str, name: str | Path, dtype: str, batch: int) -> Turns:
    """Steps of a model, all pictures in one call."""
    device = begin(plan)
    memory = Memory(device)
    pipe = load(plan, name, device, dtype, batch)
    memory.loaded()
    settings = one_call_a_step(plan, pipe, steps_needed(plan, device))
    rounds = yield from turns(plan, pipe.draw(pictures_of(pipe.model, batch, plan.seed), settings), device)
    peak = memory.done()
    return Measured(
        case,
        "here, compiled" if plan.compile else "here",
        dtype,
        batch,
        median(rounds),
        call_work(pipe.model.config, batch * evaluations(pipe, settings)),
        bytes_of(held_by(pipe)),
        peak,
        pipe.steps(usual(plan, pipe)),
        rounds,
    )


def draw_whole(
    plan: Plan, case: str, base: str | Path, upsampler: str | Path, dtype: str, repeats: int
) -> list[Found]:
    """One picture from its caption to the large one, the models being loaded: in calls of the size that a run of many
    takes, and, where that is another, of one picture alone, which is how the pipeline draws one."""
    device = begin(plan)
    pipe = load(plan, base, device, dtype, None)
    try:
        stage = load_stage(plan, upsampler, device, dtype)
    except InputError as error:
        return [Note(f"{case}, {dtype}: skipped, {error}")]
    sizes = sorted({1, default_call_size(pipe.model, device)}, reverse=True)
    return [_whole(plan, case, pipe.for_run(size), stage, dtype, repeats) for size in sizes]


def _whole(plan: Plan, case: str, pipe: Pipeline, stage: Upscaler, dtype: str, repeats: int) -> Spent:
    settings, (picture,) = usual(plan, pipe), pictures_of(pipe.model, 1, plan.seed)
    small: list[torch.Tensor] = []

    def first(settings: SamplingConfig) -> None:
        for step in pipe.draw([picture], settings):
            last = step.x
        small[:] = [to_uint8(last)[0]]

    def second(stage: Upscaler) -> None:
        stage.enlarged(small[0], picture)

    first(replace(settings, respacing=FEW))
    second(replace(stage, settings=replace(stage.settings, respacing=FEW)))
    spent = [
        (timed(lambda: first(settings), pipe.device), timed(lambda: second(stage), pipe.device))
        for _ in range(repeats)
    ]
    side = pipe.model.config.unet.image_size
    steps = [
        f"{one.sampler}, {count} steps: {median(pair[i] for pair in spent):.3g} s"
        for i, (one, count) in enumerate(((settings, pipe.steps(settings)), (stage.settings, stage.steps)))
    ]
    return Spent(
        f"{case}: one {side * stage.scale}x{side * stage.scale} picture, {dtype}, calls of {pipe.call_size}",
        median(sum(pair) for pair in spent),
        "; ".join(steps),
    )
