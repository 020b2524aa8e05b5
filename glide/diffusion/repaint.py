"""RePaint (2201.09865): inpainting with a model that was not trained for it, and with any sampler.

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
from glide.utils.numbers import shown_number

Steps = Callable[[Process, Tensor], Iterator[Tensor]]
"""A sampler: it starts from x at the last entry of a process and goes down."""
LONGEST = 1_000_000
"""Steps of a walk; the paper's has 2,410."""


def repaint_schedule(steps: int, jump: int, times: int) -> list[int]:
    """The entries that are denoised, in order: down from the noisiest, with a jump up at every `jump`-th entry.

    After each `jump` steps the picture is noised again by as many, until each stretch was denoised `times` times
    (2201.09865, section 4.2 and its schedule in the supplement). times 1 is the plain descent. InputError for numbers
    below 1, for a jump as long as the run, and for resamplings that make more than `LONGEST` entries.
    """
    if jump < 1 or times < 1:
        raise InputError(
            f"got a jump of {jump} steps, made {times} times, expected at least 1 of each: try 5 and 10"
        )
    if times > 1 and jump >= steps:
        raise InputError(
            f"got a jump of {jump} steps back in a run of {steps}, expected fewer: take smaller jumps or more steps"
        )
    places = range(0, steps - jump, jump)
    length = steps + len(places) * (times - 1) * jump
    if times > 1 and length > LONGEST:
        raise InputError(
            f"got {shown_number(times)} resamplings in a run of {steps} steps, which are {shown_number(length)} steps, "
            f"expected at most {LONGEST}: 10 are usual"
        )
    remaining = dict.fromkeys(places, times - 1)
    entries, entry = [], steps - 1
    while entry >= 0:
        entries.append(entry)
        entry -= 1
        if remaining.get(entry, 0) > 0:
            remaining[entry] -= 1
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

    steps: a sampler on its denoiser, run for one step at a time. x: unit noise. image [N,C,H,W], kept where mask
    [N,1,H,W] is 1: there each x is the image with fresh noise (eq. 8a), so the result holds it exactly. New content is
    first drawn without regard to the known pixels; noised and denoised together again, the two become consistent.
    """
    previous: int | None = None
    for entry in repaint_schedule(len(process), jump, times):
        if previous is not None and entry >= previous:
            x = _renoise(process, x, previous - 1, entry, noise)
        below = [entry - 1, entry] if entry else [entry]
        filled = next(iter(steps(process.respaced(below), x)))
        x = _known_at(process, image, entry - 1, noise) * mask + filled * (1.0 - mask)
        previous = entry
        yield x


def _renoise(process: Process, x: Tensor, low: int, high: int, noise: Noise) -> Tensor:
    """Noise x from entry `low` to `high`: all steps of q(x_t | x_{t-1}) between them at once (line 9)."""
    ratio = float(process.alpha_bar[high] / process.alpha_bar[low])
    return math.sqrt(ratio) * x + math.sqrt(1.0 - ratio) * noise(x)


def _known_at(process: Process, image: Tensor, entry: int, noise: Noise) -> Tensor:
    """The image with the noise of an entry (eq. 8a, line 4); below entry 0 the image itself."""
    if entry < 0:
        return image
    t = torch.full((len(image),), entry, dtype=torch.int64, device=image.device)
    return process.q_sample(image, t, noise(image))
