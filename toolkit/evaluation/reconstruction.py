"""Measure an autoencoder: pictures against their reconstructions, one at a time.

Shape letters: H W pixels, C channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glide.networks.first_stage import AutoencoderLike
from glide.shapes.oracle import Oracle
from glide.shapes.scene import Fact
from glide.utils.channels import on_white
from glide.utils.errors import InputError
from glide.utils.images import as_image, from_uint8, to_uint8
from toolkit.evaluation.ssim import ssim
from toolkit.evaluation.upsampling import decibels


@dataclass(frozen=True)
class Original:
    """A picture to be measured, read when it is wanted."""

    name: str
    read: Callable[[], Tensor]
    """uint8 [H,W,C]. InputError for a picture that cannot be read."""
    facts: tuple[Fact, ...] = ()
    """Of a built-in scene."""


@dataclass(frozen=True)
class Measured:
    """The figures of one picture."""

    name: str
    width: int
    height: int
    padded: bool
    """Its size is no multiple of the factor: it was padded, and its reconstruction cropped."""
    psnr: float
    """dB; 120 for an equal picture."""
    ssim: float | None
    """None for a picture of less than 11 pixels."""
    facts: int
    """Facts that the oracle finds in the picture."""
    lost: tuple[str, ...]
    """The kinds of those that it does not find in the reconstruction."""


@torch.no_grad()
def reconstructed(autoencoder: AutoencoderLike, pixels: Tensor, device: torch.device) -> Tensor:
    """A picture encoded and decoded, uint8 [H,W,C] -> the same.

    InputError where the autoencoder gives numbers that are not finite.
    """
    height, width, _ = pixels.shape
    decoded = autoencoder.decode(autoencoder.encode(from_uint8(pixels[None]).to(device)))
    cropped = decoded[..., :height, :width]
    if not torch.isfinite(cropped).all():
        raise InputError(
            "got numbers that are not finite from the autoencoder, expected pixels: train it further, or give another"
        )
    return to_uint8(cropped)[0]


def measure(original: Original, pixels: Tensor, result: Tensor, factor: int) -> Measured:
    """The figures of a picture, uint8 [H,W,C], and its reconstruction. factor: of the autoencoder."""
    height, width, _ = pixels.shape
    difference = pixels.numpy().astype(np.float32) - result.numpy()
    squared = float(np.mean(np.square(difference, out=difference), dtype=np.float64))
    held, lost = facts_lost(original.facts, pixels, result) if original.facts else (0, ())
    return Measured(
        original.name,
        width,
        height,
        bool(height % factor or width % factor),
        decibels(squared),
        ssim(pixels, result),
        held,
        lost,
    )


def facts_lost(facts: Sequence[Fact], pixels: Tensor, result: Tensor) -> tuple[int, tuple[str, ...]]:
    """The number of facts that the oracle finds in a picture, and the kinds of those that it misses in the other.

    pixels, result: uint8 [H,W,C], H = W.
    """
    oracle = Oracle()
    before, after = (
        oracle.judge(np.array(on_white(as_image(one))), facts).verdicts for one in (pixels, result)
    )
    held = [(fact, kept) for (fact, right), (_, kept) in zip(before, after, strict=True) if right]
    return len(held), tuple(fact.kind for fact, kept in held if not kept)


@dataclass(frozen=True)
class Summary:
    """The figures of all pictures together; each is a mean or a median over pictures."""

    pictures: int
    padded: int
    psnr_mean: float
    psnr_median: float
    ssim_mean: float | None
    ssim_median: float | None
    facts: int
    facts_lost: dict[str, int]
    """Lost facts by their kind."""

    @classmethod
    def of(cls, measured: Sequence[Measured]) -> Summary:
        """measured: one or more."""
        psnr = [one.psnr for one in measured]
        similar = [one.ssim for one in measured if one.ssim is not None]
        lost = Counter(kind for one in measured for kind in one.lost)
        return cls(
            len(measured),
            sum(one.padded for one in measured),
            float(np.mean(psnr)),
            float(np.median(psnr)),
            float(np.mean(similar)) if similar else None,
            float(np.median(similar)) if similar else None,
            sum(one.facts for one in measured),
            dict(sorted(lost.items())),
        )


def table(summary: Summary, worst: Sequence[Measured], factor: int) -> str:
    """The text for the screen, of several lines. worst: the pictures to name."""
    s = summary
    lines = [f"{s.pictures} pictures" if s.pictures > 1 else "1 picture"]
    if s.padded:
        lines.append(f"{s.padded} of them padded to a multiple of {factor} pixels, and cropped back")
    lines += [
        f"{'':8}{'mean':>8}{'median':>8}",
        f"{'PSNR dB':8}{s.psnr_mean:8.2f}{s.psnr_median:8.2f}",
        f"{'SSIM':8}{_share(s.ssim_mean):>8}{_share(s.ssim_median):>8}",
    ]
    if s.facts:
        lost = sum(s.facts_lost.values())
        kinds = ", ".join(f"{count} {kind}" for kind, count in s.facts_lost.items())
        lines.append(f"facts lost: {lost / s.facts:.1%} of {s.facts}" + (f" ({kinds})" if kinds else ""))
    if worst:
        lines += ["worst by PSNR:", f"{'dB':>8}{'SSIM':>8}{'size':>12}  file"]
    for one in worst:
        size = f"{one.width}x{one.height}"
        lines.append(f"{one.psnr:8.2f}{_share(one.ssim):>8}{size:>12}  {one.name}")
    return "\n".join(lines)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
