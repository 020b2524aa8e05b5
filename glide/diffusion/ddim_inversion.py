"""DDIM inversion: the noise from which DDIM draws a given picture, and back.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

DDIM without noise follows an ordinary differential equation (2010.02502, section 4.3), so it can be solved in both
directions. The picture is its state at the first entry, where next to no noise is left: `revert` stops there. DDIM's
last step does not follow the equation: it replaces the remaining noise by the network's prediction, which changes
every picture that the network did not draw itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import apply_gradient
from glide.diffusion.samplers.ddpm_ddim import ddim
from glide.utils.errors import InputError

ITERATIONS = 8
ANDERSON_DEPTH = 4
"""The number of iterates that are combined."""
REGULARIZATION = 1e-7
"""Share of the sum of the squared updates that is added to the diagonal: updates can be nearly parallel."""


@torch.no_grad()
def invert(
    process: Process, denoise: Denoiser, picture: Tensor, iterations: int = ITERATIONS
) -> Iterator[Tensor]:
    """DDIM upwards: yields x [N,C,H,W] at the entries 0 (the picture, scaled), 1, ..., S-1.

    picture: [N,C,H,W] in [-1, 1]. A step up ends at the x from which DDIM's step down returns to the present one. That
    is an equation for x, as the network is evaluated at x itself. It is solved by `iterations` network calls:
    fixed-point inversion (2312.12540), whose iterates are combined by Anderson's method (`anderson_mix`), because
    plain iterates of a sharp network diverge where it decides between two pictures. One call is plain DDIM inversion.
    InputError below one.
    """
    if iterations < 1:
        raise InputError(
            f"got {iterations} network calls a step to invert with, expected at least 1: try {ITERATIONS}"
        )
    x = math.sqrt(process.alpha_bar[0]) * picture.to(torch.promote_types(picture.dtype, torch.float32))
    yield x
    x0 = picture.to(x)
    for i in range(1, len(process)):
        a, sigma = math.sqrt(process.alpha_bar[i - 1]), math.sqrt(1.0 - process.alpha_bar[i - 1])
        a_up, sigma_up = math.sqrt(process.alpha_bar[i]), math.sqrt(1.0 - process.alpha_bar[i])
        # DDIM's step down is x = a x0 + sigma eps with x_up = a_up x0 + sigma_up eps. It gives eps from x0, or x0 from
        # eps: errors shrink faster in the one or the other form (by f and f * a * sigma_up / sigma).
        by_x0 = a * sigma_up < sigma
        up = _ddim_step_up(x, x0, a, sigma, a_up, sigma_up)
        guesses: list[Tensor] = []
        images: list[Tensor] = []
        for _ in range(iterations):
            guesses.append(up)
            x0 = apply_gradient(denoise(up, int(process.timesteps[i])), up, float(process.alpha_bar[i]))
            if by_x0:
                images.append(_ddim_step_up(x, x0, a, sigma, a_up, sigma_up))
            else:
                eps = (up - a_up * x0) / sigma_up
                images.append(a_up / a * (x - sigma * eps) + sigma_up * eps)
            up = anderson_mix(guesses[-ANDERSON_DEPTH:], images[-ANDERSON_DEPTH:])
        x = up
        yield x


def anderson_mix(guesses: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
    """The next guess [N,C,H,W] at a fixed point, from the last K guesses and their images, each [N,C,H,W].

    The combination sum w_k image_k, sum w_k = 1, whose sum w_k (image_k - guess_k) is smallest, for each picture
    separately (Anderson 1965; Walker and Ni 2011, eq. 1.2).
    """
    # one by one: a picture must not depend on the others in its batch, to the last bit
    rows = [_anderson_mix_one([x[n] for x in guesses], [x[n] for x in images]) for n in range(len(images[0]))]
    return torch.stack(rows)


def _anderson_mix_one(guesses: Sequence[Tensor], images: Sequence[Tensor]) -> Tensor:
    """`anderson_mix` of one picture, [C,H,W]."""
    if len(guesses) == 1:
        return images[0]
    updates = torch.stack([after - before for before, after in zip(guesses, images, strict=True)]).flatten(1)
    gram = (updates @ updates.mT).double()  # [K,K]
    size = float(gram.trace()) or 1.0  # at the fixed point all updates are 0
    gram = gram / size + REGULARIZATION * torch.eye(len(gram)).to(gram)
    weights = torch.linalg.solve(gram, torch.ones_like(gram[0]))  # [K]
    weights = (weights / weights.sum()).to(updates.dtype)
    return torch.tensordot(weights, torch.stack(list(images)), dims=1)


def _ddim_step_up(x: Tensor, x0: Tensor, a: float, sigma: float, a_up: float, sigma_up: float) -> Tensor:
    return a_up * x0 + sigma_up / sigma * (x - a * x0)


@torch.no_grad()
def revert(process: Process, denoise: Denoiser, x: Tensor) -> Iterator[Tensor]:
    """DDIM from x [N,C,H,W] at entry S-1 down to entry 0, the inverse of `invert`; yields after each of S-1 steps."""
    yield from islice(ddim(process, denoise, x), len(process) - 1)


def picture_of(process: Process, x: Tensor) -> Tensor:
    """The picture [N,C,H,W], nominally in [-1, 1], whose state at entry 0 is x."""
    return x / math.sqrt(process.alpha_bar[0])
