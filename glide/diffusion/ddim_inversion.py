"""DDIM inversion: the noise from which DDIM draws a given picture, and back.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

DDIM without noise follows an ordinary differential equation (2010.02502, section 4.3), so it can be walked both ways.
The picture is its state at the first entry, where next to no noise is left: `revert` stops there. DDIM's very last step
is no step of the equation but the network's own idea of what is left, which no picture that was not drawn by it
survives unchanged.
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
MEMORY = 4  # iterates that are combined
REGULAR = 1e-7  # of the sum of their moves' squares; moves that are nearly alike must not divide by nothing


@torch.no_grad()
def invert(
    process: Process, denoise: Denoiser, picture: Tensor, iterations: int = ITERATIONS
) -> Iterator[Tensor]:
    """DDIM upwards: yields x [N,C,H,W] at the entries 0 (the picture, scaled), 1, ..., S-1.

    picture: [N,C,H,W] in [-1, 1]. One step up is the x that DDIM's step down leads back to where we are. That is an
    equation for x, as the network is asked at x itself; it is solved by `iterations` network calls: fixed-point
    inversion (2312.12540), whose iterates are combined by Anderson's method (`mixed`), as a sharp network's alone run
    away from each other where it decides between two pictures. One call is plain DDIM inversion. InputError below one.
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
        # DDIM's step down is x = a x0 + sigma eps with x_up = a_up x0 + sigma_up eps. Given x0 it says what eps is,
        # and given eps what x0 is: errors of the one or of the other shrink faster (by f and f * a * sigma_up / sigma).
        by_x0 = a * sigma_up < sigma
        up = _up_by_x0(x, x0, a, sigma, a_up, sigma_up)
        asked: list[Tensor] = []
        answers: list[Tensor] = []
        for _ in range(iterations):
            asked.append(up)
            x0 = apply_gradient(denoise(up, int(process.timesteps[i])), up, float(process.alpha_bar[i]))
            if by_x0:
                answers.append(_up_by_x0(x, x0, a, sigma, a_up, sigma_up))
            else:
                eps = (up - a_up * x0) / sigma_up
                answers.append(a_up / a * (x - sigma * eps) + sigma_up * eps)
            up = mixed(asked[-MEMORY:], answers[-MEMORY:])
        x = up
        yield x


def mixed(asked: Sequence[Tensor], answers: Sequence[Tensor]) -> Tensor:
    """The next guess [N,C,H,W] at a fixed point, from the last K guesses and what became of them, each [N,C,H,W].

    The combination sum w_k answer_k, sum w_k = 1, whose sum w_k (answer_k - asked_k) is smallest, of each picture by
    itself (Anderson 1965; Walker and Ni 2011, eq. 1.2).
    """
    rows = [
        _mixed([x[n] for x in asked], [x[n] for x in answers]) for n in range(len(answers[0]))
    ]  # one by one: what a picture becomes does not depend on those beside it, to the last bit
    return torch.stack(rows)


def _mixed(asked: Sequence[Tensor], answers: Sequence[Tensor]) -> Tensor:
    """[C,H,W] of one picture."""
    if len(asked) == 1:
        return answers[0]
    moves = torch.stack([after - before for before, after in zip(asked, answers, strict=True)]).flatten(1)
    gram = (moves @ moves.mT).double()  # [K,K]
    size = float(gram.trace()) or 1.0  # where the answer is found nothing moves
    gram = gram / size + REGULAR * torch.eye(len(gram)).to(gram)
    weights = torch.linalg.solve(gram, torch.ones_like(gram[0]))  # [K]
    weights = (weights / weights.sum()).to(moves.dtype)
    return torch.tensordot(weights, torch.stack(list(answers)), dims=1)


def _up_by_x0(x: Tensor, x0: Tensor, a: float, sigma: float, a_up: float, sigma_up: float) -> Tensor:
    return a_up * x0 + sigma_up / sigma * (x - a * x0)


@torch.no_grad()
def revert(process: Process, denoise: Denoiser, x: Tensor) -> Iterator[Tensor]:
    """DDIM from x [N,C,H,W] at entry S-1 down to entry 0, the way back of `invert`; yields after each of S-1 steps."""
    yield from islice(ddim(process, denoise, x), len(process) - 1)


def picture_of(process: Process, x: Tensor) -> Tensor:
    """The picture [N,C,H,W], nominally in [-1, 1], whose state at entry 0 is x."""
    return x / math.sqrt(process.alpha_bar[0])
