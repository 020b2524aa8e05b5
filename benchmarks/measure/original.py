"""The original's way, with the networks of this project: how GLIDE's own release samples.

float32 (float16 on a GPU), the plain memory layout, attention by two matrix products and a softmax, the caption encoded
again at every step, both evaluations of classifier-free guidance in one batch, ancestral sampling.

Shape letters: B pictures, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure.drawing import pictures_of
from benchmarks.measure.machine import Memory, begin, bytes_of
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Measured
from benchmarks.measure.turns import Turns, steps_needed, turns
from benchmarks.measure.work import counted
from glide.checkpoints.load import load_model
from glide.diffusion.denoiser import Prediction, clamp, to_x0
from glide.diffusion.process import respacing
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ancestral
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_

NAME = "the original's way"
SCALE = 3.0
STEPS = {"base": 100, "upsampler": 27}  # of a picture, in its release


def original_dtype(device: torch.device) -> str:
    return "float16" if device.type == "cuda" else "float32"


def draw_original(plan: Plan, case: str, folder: Path, batch: int) -> Turns:
    """Steps of a published network, "base" or "upsampler"."""
    device = begin(plan)
    dtype = original_dtype(device)
    memory = Memory(device)
    model = load_model(folder, device).requires_grad_(False)
    lower_(model.unet, getattr(torch, dtype))
    memory.loaded()
    pictures = pictures_of(model, batch, plan.seed)
    rounds = yield from turns(
        plan, _plainly(ancestral_steps(model, pictures, steps_needed(plan, device))), device
    )
    peak = memory.done()
    work = counted(lambda: next(_plainly(ancestral_steps(model, pictures, 1))))
    weights = bytes_of([model])
    return Measured(case, NAME, dtype, batch, median(rounds), work, weights, peak, STEPS[case], rounds)


def _plainly(steps: Iterator[Tensor]) -> Iterator[Tensor]:
    """Each step with attention by two matrix products and a softmax; others that run between them do not."""
    while True:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            x = next(steps, None)
        if x is None:
            return
        yield x


def ancestral_steps(model: Model, pictures: list[ImageRequest], count: int) -> Iterator[Tensor]:
    """x [B,C,H,W] after each of `count` steps: a base model is guided, an upsampler is not."""
    process = model.process.respaced(respacing(str(count), len(model.process)))
    alpha_bar = dict(zip(process.timesteps.tolist(), process.alpha_bar.tolist(), strict=True))
    captions, batch = [picture.caption for picture in pictures], {}
    guided = not model.config.low_res
    if not guided:
        low_res = [picture.given.low_res for picture in pictures if picture.given.low_res is not None]
        batch["low_res"] = torch.stack(low_res).to(model.device)
    batch |= model.caption_batch(captions + [""] * len(captions) if guided else captions)

    def denoise(x: Tensor, t: int) -> Prediction:
        rows = torch.cat([x, x]) if guided else x  # [2B,C,H,W], or [B,C,H,W]
        steps = torch.full((len(rows),), t, device=x.device)
        eps, v = model(rows.contiguous(), steps, batch).float().chunk(2, dim=1)
        if guided:
            with_caption, without = eps.chunk(2)
            eps, v = without + SCALE * (with_caption - without), v[: len(x)]
        x0 = to_x0("eps", eps, x, math.sqrt(alpha_bar[t]), math.sqrt(1 - alpha_bar[t]))
        return Prediction(clamp(x0), v)

    noise = SeededNoise([picture.seed for picture in pictures])
    size = model.config.unet.image_size
    x = noise.randn((model.config.unet.in_channels, size, size), model.device)
    return ancestral(process, denoise, x, noise, "learned")
