"""Loss and accuracy of a noisy classifier at each noise level, on held-out pictures.

Shape letters: M pictures, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.utils.plots import figure
from guidance.classifier.network import NoisyClassifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BATCH = 64


@dataclass(frozen=True)
class Level:
    """Means over the pictures at one timestep."""

    t: int | None
    """None: clean pictures."""
    log_snr: float | None
    loss: float
    """Cross-entropy, nats; log K is guessing."""
    accuracy: float
    accuracy5: float | None
    """Share of pictures whose class is among the five likeliest; None where there are no more than five classes."""


def accuracy(logits: Tensor, y: Tensor, k: int = 1) -> Tensor:
    """Top-k correctness: 1.0 where the class y [M] is among the k likeliest of logits [M,K], else 0.0. [M]."""
    return (logits > logits.gather(1, y[:, None])).sum(dim=1).lt(k).float()


@torch.no_grad()
def measure(
    model: NoisyClassifier, image: Tensor, y: Tensor, timesteps: Sequence[int | None], dtype: torch.dtype
) -> list[Level]:
    """One Level for each of `timesteps`, None for clean pictures; the noise is always the same.

    image [M,C,H,W] in [-1, 1] and y [M], on any device; a classifier of latents sees those of the pictures. dtype: of
    the network (autocast).
    """
    image = model.first_stage.encode_in_parts(image, BATCH, model.device)
    found = []
    for t in timesteps:
        generator = torch.Generator().manual_seed(0 if t is None else 1 + t)
        parts = []
        for x, target in zip(image.split(BATCH), y.split(BATCH), strict=True):
            x, target = x.to(model.device), target.to(model.device)
            ts = torch.full_like(target, t or 0)
            if t is not None:
                x = model.process.q_sample(x, ts, torch.randn(x.shape, generator=generator).to(x))
            with torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32):
                logits = model(x, ts)
            logits = logits.float()
            loss = F.cross_entropy(logits, target, reduction="none")
            parts.append(torch.stack([loss, accuracy(logits, target), accuracy(logits, target, 5)]))
        loss_, first, five = torch.cat(parts, dim=1).double().mean(dim=1).tolist()
        snr = None if t is None else float(model.process.snr[t])
        log_snr = math.log(snr) if snr else None
        found.append(Level(t, log_snr, loss_, first, five if model.config.num_classes > 5 else None))
    return found


def table(levels: Sequence[Level]) -> str:
    """Lines of text, the least noise first and the mean of all last."""
    many = levels[0].accuracy5 is not None
    head = f"{'timestep':>8} {'log SNR':>8} {'loss':>7} {'acc@1':>7}" + (f" {'acc@5':>7}" if many else "")
    lines = [head]
    mean = {
        name: _mean(getattr(level, name) for level in levels) for name in ("loss", "accuracy", "accuracy5")
    }
    rows = [
        (("clean" if x.t is None else str(x.t)), x.log_snr, x.loss, x.accuracy, x.accuracy5) for x in levels
    ]
    if len(levels) > 1:
        rows.append(("mean", None, mean["loss"] or 0.0, mean["accuracy"] or 0.0, mean["accuracy5"]))
    for name, snr, loss, first, five in rows:
        line = f"{name:>8} {'' if snr is None else f'{snr:.2f}':>8} {loss:7.3f} {first:7.1%}"
        lines.append(line + (f" {five:7.1%}" if five is not None else ""))
    return "\n".join(lines)


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def plot(levels: Sequence[Level], num_classes: int, title: str) -> Figure:
    """Accuracies and loss against the timestep, with those of guessing. InputError where matplotlib is missing."""
    chart = figure(9.0, 3.6)
    left, right = chart.subplots(1, 2)
    ts = [level.t or 0 for level in levels]
    left.plot(ts, [level.accuracy for level in levels], "o-", label="accuracy@1")
    if levels[0].accuracy5 is not None:
        left.plot(ts, [level.accuracy5 for level in levels], "o-", label="accuracy@5")
    left.axhline(1 / num_classes, color="gray", linestyle=":", label="guessing")
    left.set(xlabel="training timestep (noise grows)", ylabel="share of held-out pictures", ylim=(0, 1.02))
    right.plot(ts, [level.loss for level in levels], "o-", label="loss")
    right.axhline(math.log(num_classes), color="gray", linestyle=":", label="guessing")
    right.set(xlabel="training timestep (noise grows)", ylabel="cross-entropy, nats")
    right.set_ylim(0, 1.1 * max(math.log(num_classes), *(level.loss for level in levels)))
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    chart.suptitle(title)
    return chart
