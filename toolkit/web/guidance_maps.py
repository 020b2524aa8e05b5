"""Maps of guidances: where each one moves the picture, and how far, at every step of a drawing.

The drawing is that of the page; beside each of its steps the denoiser is called once more, with guidances that note
their shifts. Shape letters: N pictures, S steps, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from glide.diffusion.process import Array
from glide.diffusion.samplers.base import SeededNoise
from glide.networks.image_request import ImageRequest
from glide.utils.errors import InputError
from glide.utils.images import png_bytes, to_uint8
from guidance.base import Guidance, GuidanceWrapper
from toolkit.pipelines.denoising_loop import DenoisingLoop
from toolkit.pipelines.known_pixels import begin
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.web.drawing import Cancelled, Drawing, requests_of, sized
from toolkit.web.jobs import Job
from toolkit.web.picture_store import Stored
from toolkit.web.previews import columns_of

HEAT = (255, 92, 0)
MOST_STEPS = 200
MOST_PIXELS = 2**24  # of all steps of one picture together


class Noted(GuidanceWrapper):
    """A guidance that notes the length of its shift of x0, over the channels of each pixel."""

    def __init__(self, inner: Guidance, alpha_bar: Array) -> None:
        """alpha_bar: of each training timestep, by which a gradient becomes a shift of x0."""
        self.inner, self.alpha_bar = inner, alpha_bar
        self.now = inner
        """The inner one with its strength at this timestep."""
        self.lengths: Tensor | None = None
        """[N,H,W] of the last call; None where it did not act."""

    def at(self, t: int) -> Noted:
        self.now = self.inner.at(t)
        return self

    def active(self, t: int) -> bool:
        return self.now.active(t)

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        return self.now.condition(cond, t)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        shift = self.now.shift(main, references)
        self._note(shift, 1.0)
        return shift

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        """The solver moves epsilon by -sqrt(1 - alpha_bar) of it, and x0 by (1 - alpha_bar) / sqrt(alpha_bar)."""
        gradient = self.now.gradient(x, t)
        alpha_bar = float(self.alpha_bar[t])
        self._note(gradient, (1 - alpha_bar) / math.sqrt(max(alpha_bar, 1e-8)))
        return gradient

    def _note(self, value: Tensor | float, factor: float) -> None:
        if isinstance(value, Tensor):
            lengths = factor * value.detach().float().square().sum(1).sqrt()
            self.lengths = lengths if self.lengths is None else self.lengths + lengths


def explain(job: Job, with_: Drawing) -> None:
    """Draw a job's picture, and store a sheet of x0 and one of each guidance's maps over the steps.

    InputError for what cannot be drawn, or without a guidance.
    """
    request = job.request
    pipe = with_.models.pipe(request.model)
    settings = request.settings(pipe.conditioner.has_null)
    (picture, *_), entries = requests_of(replace(request, count=1), pipe, settings, with_.store)
    run = sized(pipe, request.call_size, 1)
    steps = pipe.steps(settings)
    _check(steps, pipe)
    loop = run.loop([picture], settings)
    noted = [Noted(guidance, pipe.model.process.alpha_bar) for guidance in loop.denoise.guidances]
    if not noted:
        raise InputError("got no guidance to show, expected at least one: add a guidance")
    loop.denoise.guidances = list(noted)
    drawing = run.draw([picture], settings)
    job.begin(steps)
    x, pictures, maps = _start(run, loop, picture, settings), list[Tensor](), [list[Tensor]() for _ in noted]
    for step in drawing:
        for one in noted:
            one.lengths = None
        loop.denoise(x, step.t)
        for one, found in zip(noted, maps, strict=True):
            found.append(torch.zeros(x.shape[-2:]) if one.lengths is None else one.lengths[0].cpu())
        x = _in_place(x, step.latents, loop)
        pictures.append(step.x0[0].cpu())
        job.advance()
        if job.asked:
            raise Cancelled
    recipe = run.recipe(picture, settings, request.place) | entries
    shown = with_.keep(to_uint8(step.x)[0], recipe)
    names = [str(spec) for spec in settings.specs if spec.name != "none"]
    job.maps = {
        "film": _stored(with_, to_uint8(torch.stack(pictures))),
        "columns": columns_of(len(pictures)),
        "steps": len(pictures),
        "size": list(pictures[0].shape[-2:][::-1]),
        "guidances": [
            {"name": name, "id": _stored(with_, heat(torch.stack(found), most)), "most": round(most, 4)}
            for name, found in zip(_fitted(names, len(maps)), maps, strict=True)
            for most in [float(torch.stack(found).max())]
        ],
    }
    job.end("done", pictures=(shown,))


def heat(lengths: Tensor, most: float) -> Tensor:
    """[S,H,W] as uint8 [S,H,W,4]: one colour, as opaque as the shift is long compared with `most`."""
    pixels = torch.zeros(*lengths.shape, 4, dtype=torch.uint8)
    pixels[..., :3] = torch.tensor(HEAT, dtype=torch.uint8)
    pixels[..., 3] = (255 * lengths / most).round().clamp(0, 255).to(torch.uint8) if most > 0 else 0
    return pixels


def _check(steps: int, pipe: Pipeline) -> None:
    if steps > MOST_STEPS or steps * pipe.model.config.picture_size**2 > MOST_PIXELS:
        raise InputError(
            f"got {steps} steps to show, expected at most {MOST_STEPS}, fewer of large pictures: ask for fewer"
        )


def _start(run: Pipeline, loop: DenoisingLoop, picture: ImageRequest, settings: SamplingConfig) -> Tensor:
    """The x [N,C,H,W] that the drawing begins with, as `BasePipeline.draw` makes it."""
    noise = SeededNoise([row.seed for row in loop.rows])
    unit = settings.temperature * noise.randn((run.model.config.unet.in_channels, *loop.size), run.device)
    return begin(loop.rows, loop.process, unit, settings.strength).contiguous(
        memory_format=torch.channels_last
    )


def _in_place(x: Tensor, latents: Tensor, loop: DenoisingLoop) -> Tensor:
    """The next x [N,C,H,W], of which `latents` are the rows that are pictures."""
    changed = x.clone()
    changed[loop.padding.real] = latents
    return changed


def _stored(with_: Drawing, pixels: Tensor) -> str:
    """Store uint8 [S,H,W,C] as one sheet, in rows of `columns_of` S; its id."""
    count, height, width, channels = pixels.shape
    columns = columns_of(count)
    rows = -(-count // columns)
    filled = torch.zeros(rows * columns, height, width, channels, dtype=torch.uint8)
    filled[:count] = pixels
    sheet = filled.view(rows, columns, height, width, channels).permute(0, 2, 1, 3, 4)
    data = png_bytes(sheet.reshape(rows * height, columns * width, channels))
    return with_.store.put(Stored(data, "image/png", "steps.png"))


def _fitted(names: Sequence[str], count: int) -> list[Any]:
    """A name for each guidance; a spec may stand for several."""
    return list(names) if len(names) == count else [f"guidance {i + 1}" for i in range(count)]
