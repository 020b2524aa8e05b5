"""Find the facts of a caption that a network uses, and at which noise levels: its loss with right and wrong captions.

Samples take long to draw and judge, and say that a fact is wrong, not why. This says within seconds whether a model in
training attends to "left" at all, and where: a fact whose change leaves the loss as it is has not been learned.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glide.data.hard_negatives import change_fact
from glide.diffusion.denoiser import split_variance, to_x0
from glide.diffusion.process import gather
from glide.networks.model import Model
from glide.shapes.dataset import render
from glide.shapes.scene import VALUES, Scene
from glide.utils.channels import in_channels
from glide.utils.errors import InputError
from glide.utils.progress import progress


@dataclass(frozen=True)
class Binding:
    """Mean squared errors of x0, pixels or latents, at one timestep, over the pictures whose caption says the fact."""

    fact: str  # one of FACT_KINDS, or "caption": all of it against none
    t: int
    snr: float
    right: float
    wrong: float
    pictures: int


@torch.no_grad()
def binding(
    model: Model,
    scenes: Sequence[Scene],
    timesteps: Sequence[int],
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> list[Binding]:
    """One Binding for each kind of fact that the captions say, and one for the whole caption, at each timestep.

    scenes: of `glide.shapes.dataset.held_out_scenes`, drawn at the model's size. Noise and changes are the same for
    every model (seed). InputError for a model without captions, or a timestep that it does not have.
    """
    if not model.config.reads_captions or model.config.low_res:
        raise InputError(
            "got a model without captions, or one that is shown another picture too, expected one that draws from "
            "captions alone: give a text model"
        )
    process = model.process
    if not all(0 <= t < len(process) for t in timesteps):
        raise InputError(f"got timesteps {list(timesteps)}, expected 0 to {len(process) - 1}")
    size = model.config.picture_size
    shown = in_channels(render(list(scenes), size), model.config.picture_channels)
    pixels = torch.from_numpy(shown).permute(0, 3, 1, 2)  # [N,C,H,W]
    x0 = model.first_stage.encode_in_parts((pixels.float() / 127.5 - 1), 32, model.device).to(model.device)
    rng = np.random.default_rng(seed)
    captions: dict[str, list[str | None]] = {"caption": [""] * len(scenes)}
    captions |= {kind: [change_fact(scene, kind, rng) for scene in scenes] for kind in VALUES}
    found = []
    for t in progress(timesteps, desc="binding", unit="timestep"):
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed + t)).to(x0)
        right = _errors(model, x0, noise, t, [scene.caption for scene in scenes], dtype)
        for fact, wrongs in captions.items():
            rows = [i for i, caption in enumerate(wrongs) if caption is not None]
            if not rows:
                continue
            wrong_captions = [caption for caption in wrongs if caption is not None]
            wrong = _errors(model, x0[rows], noise[rows], t, wrong_captions, dtype)
            means = float(right[rows].mean()), float(wrong.mean())
            found.append(Binding(fact, t, float(process.snr[t]), *means, len(rows)))
    return found


def _errors(
    model: Model, x0: Tensor, noise: Tensor, t: int, captions: list[str], dtype: torch.dtype
) -> Tensor:
    """Mean squared error in x0 of each picture, [N]."""
    errors = []
    for rows in torch.arange(len(x0)).split(32):
        part, steps = x0[rows], torch.full((len(rows),), t, device=x0.device)
        x = model.process.q_sample(part, steps, noise[rows]).contiguous(memory_format=torch.channels_last)
        batch = model.caption_batch([captions[i] for i in rows.tolist()]) | model.nothing_known(len(rows))
        with nullcontext() if dtype == torch.float32 else torch.autocast(x.device.type, dtype):
            output = model(x, steps, batch)
        mean, _ = split_variance(output.float(), x.shape[1])
        alpha = gather(np.sqrt(model.process.alpha_bar), steps, x)
        sigma = gather(np.sqrt(1.0 - model.process.alpha_bar), steps, x)
        x0_ = to_x0(model.config.process.prediction, mean, x, alpha, sigma)
        errors.append(((x0_ - part) ** 2).mean(dim=(1, 2, 3)))
    return torch.cat(errors)


def table(bindings: Sequence[Binding]) -> str:
    """A row for each timestep; for each fact, by how many percent the wrong caption raises the error."""
    facts = list(dict.fromkeys(b.fact for b in bindings))
    lines = [" | ".join(["| t", "snr", *facts]) + " |", "|---" * (2 + len(facts)) + "|"]
    for t in dict.fromkeys(b.t for b in bindings):
        row = {b.fact: b for b in bindings if b.t == t}
        cells = [f"{100 * (row[f].wrong / row[f].right - 1):+.0f}%" if f in row else "-" for f in facts]
        lines.append(" | ".join([f"| {t}", f"{next(iter(row.values())).snr:.2g}", *cells]) + " |")
    return "\n".join(lines)
