"""RePaint (2201.09865): inpainting by a model that was never trained for it, and by any sampler.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from glide.diffusion.process import Process
from glide.diffusion.samplers.base import Noise
from glide.utils.errors import InputError

Steps = Callable[
    [Process, Tensor], Iterator[Tensor]
]  # a sampler: from x at the last entry of a process, downwards


def repaint_schedule(steps: int, jump: int, times: int) -> list[int]:
    """The entries that are denoised, in order: down from the noisiest, and at every `jump`-th entry up again.

    After each `jump` steps the picture is noised again by as many, until each stretch was denoised `times` times
    (2201.09865, section 4.2 and its schedule in the supplement). times 1 is the plain way down. InputError for
    numbers below 1, and for a jump that leaves no entry to come back from.
    """
    if jump < 1 or times < 1:
        raise InputError(
            f"got a jump of {jump} steps, made {times} times, expected at least 1 of each: try 5 and 10"
        )
    if times > 1 and jump >= steps:
        raise InputError(
            f"got a jump of {jump} steps back in a run of {steps}, expected fewer: take smaller jumps or more steps"
        )
    left = dict.fromkeys(range(0, steps - jump, jump), times - 1)
    entries, entry = [], steps - 1
    while entry >= 0:
        entries.append(entry)
        entry -= 1
        if left.get(entry, 0) > 0:
            left[entry] -= 1
            entry += jump
    return entries


@torch.no_grad()
def repaint(
    process: Process,
    steps: Steps,
    x: Tensor,
    noise: Noise,
    image: Tensor,
    mask: Tensor,
    jump: int = 5,
    times: int = 10,
) -> Iterator[Tensor]:
    """Algorithm 1 of 2201.09865: yields x [N,C,H,W] after each denoising step of `repaint_schedule`.

    steps: a sampler on its denoiser, asked for one step at a time. x: unit noise. image [N,C,H,W], kept where mask
    [N,1,H,W] is 1: there each x is the image, noised anew (eq. 8a), so the result holds it exactly. What was filled in
    cannot know yet what stands beside it; noised and denoised again together, the two grow into each other.
    """
    before: int | None = None
    for entry in repaint_schedule(len(process), jump, times):
        if before is not None and entry >= before:
            x = _noised(process, x, before - 1, entry, noise)
        below = [entry - 1, entry] if entry else [entry]
        filled = next(iter(steps(process.respaced(below), x)))
        x = _known(process, image, entry - 1, noise) * mask + filled * (1.0 - mask)
        before = entry
        yield x


def _noised(process: Process, x: Tensor, low: int, high: int, noise: Noise) -> Tensor:
    """x at entry `low` taken up to `high`: all steps of q(x_t | x_{t-1}) between them at once (line 9)."""
    ratio = float(process.alpha_bar[high] / process.alpha_bar[low])
    return math.sqrt(ratio) * x + math.sqrt(1.0 - ratio) * noise(x)


def _known(process: Process, image: Tensor, entry: int, noise: Noise) -> Tensor:
    """The image at an entry's noise (eq. 8a, line 4); below entry 0 the image itself."""
    if entry < 0:
        return image
    t = torch.full((len(image),), entry, dtype=torch.int64, device=image.device)
    return process.q_sample(image, t, noise(image))
