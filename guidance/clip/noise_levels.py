"""Retrieval accuracy of a noisy CLIP at each noise level: of M held-out pairs, the share that find each other.

Shape letters: M pairs, K wrong captions of each, E embedding width, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glide.utils.plots import figure
from guidance.clip.contrastive import contrast
from guidance.clip.network import NoisyClip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 64


@dataclass(frozen=True)
class Retrieval:
    """Means over M pairs at one timestep."""

    t: int
    log_snr: float | None
    """None: no signal at all."""
    loss: float
    """Nats; log M is guessing."""
    image_to_text: float
    """Share of pictures whose best caption of all M is their own (or the same words)."""
    text_to_image: float
    """Share of captions whose best picture of all M is their own (or has the same caption)."""
    fact: float | None = None
    """With wrong captions: the share of those, wrong in one fact, that fit the picture less than its own."""


@torch.no_grad()
def retrieval(
    clip: NoisyClip,
    image: Tensor,
    captions: Sequence[str],
    timesteps: Sequence[int],
    dtype: torch.dtype,
    wrong: Sequence[Sequence[str]] = (),
) -> list[Retrieval]:
    """One for each of `timesteps`; the noise is always the same.

    image [M,C,H,W] in [-1, 1], on any device, with M captions; a CLIP of latents sees those of the pictures. dtype: of
    the network (autocast). wrong: M lists of K captions which are nearly right; they count for `fact` alone, so that
    the rest compares with other data.
    """
    image = clip.first_stage.encode_in_parts(image, BATCH, clip.device)

    def encode(*inputs: Tensor, text: bool) -> Tensor:
        with torch.autocast(clip.device.type, dtype, enabled=dtype != torch.float32):
            return clip.encode_text(*inputs) if text else clip.encode_image(*inputs)

    def encode_all(captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        tokens, mask = clip.caption_batch(captions)
        pairs = zip(tokens.split(BATCH), mask.split(BATCH), strict=True)
        return tokens, torch.cat([encode(*pair, text=True) for pair in pairs])

    tokens, texts = encode_all(captions)  # [M,E]
    nearly = (
        encode_all([text for texts in wrong for text in texts])[1].unflatten(0, (len(image), -1))
        if wrong
        else None
    )
    found = []
    for t in timesteps:
        generator = torch.Generator().manual_seed(1 + t)
        parts = []
        for x in image.split(BATCH):
            x = x.to(clip.device)
            ts = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
            x_t = clip.process.q_sample(x, ts, torch.randn(x.shape, generator=generator).to(x))
            parts.append(encode(x_t, ts, text=False))
        images = torch.cat(parts)
        terms = contrast(images, texts, tokens, clip.scale)
        if nearly is not None:
            terms["fact"] = contrast(images, texts, tokens, clip.scale, nearly)["fact"]
        mean = {name: float(values.double().mean()) for name, values in terms.items()}
        snr = float(clip.process.snr[t])
        log_snr = math.log(snr) if snr else None
        found.append(Retrieval(t, log_snr, **mean))
    return found


def table(levels: Sequence[Retrieval]) -> str:
    """Lines of text, the least noise first and the mean of all last."""
    columns = ["loss", "image_to_text", "text_to_image"]
    columns += ["fact"] if all(level.fact is not None for level in levels) else []
    heads = [column.replace("_to_", "->") for column in columns]
    lines = [f"{'timestep':>8} {'log SNR':>8} {'loss':>7}" + "".join(f" {head:>12}" for head in heads[1:])]
    rows = [(str(x.t), x.log_snr, [getattr(x, column) for column in columns]) for x in levels]
    if len(levels) > 1:
        means = [sum(column) / len(levels) for column in zip(*(row[2] for row in rows), strict=True)]
        rows.append(("mean", None, means))
    for name, snr, (loss, *shares) in rows:
        noise = "" if snr is None else f"{snr:.2f}"
        lines.append(f"{name:>8} {noise:>8} {loss:7.3f}" + "".join(f" {share:12.1%}" for share in shares))
    return "\n".join(lines)


def plot(levels: Sequence[Retrieval], pairs: int, title: str) -> Figure:
    """Both accuracies against the timestep, with that of guessing. InputError where matplotlib is missing."""
    chart = figure(7.0, 4.0)
    axes = chart.subplots()
    ts = [level.t for level in levels]
    axes.plot(ts, [level.image_to_text for level in levels], "o-", label="picture finds caption")
    axes.plot(ts, [level.text_to_image for level in levels], "o-", label="caption finds picture")
    facts = [level.fact for level in levels if level.fact is not None]
    if facts:
        axes.plot(ts, facts, "o-", label="a caption wrong in one fact fits less")
    axes.axhline(1 / pairs, color="gray", linestyle=":", label="guessing")
    axes.set(
        xlabel="training timestep (noise grows)", ylabel=f"best of {pairs} held-out pairs", ylim=(0, 1.02)
    )
    axes.legend()
    axes.grid(alpha=0.3)
    chart.suptitle(title)
    return chart
