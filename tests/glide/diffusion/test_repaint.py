"""RePaint: its schedule against the paper's, and its samples against a Gaussian's conditional distribution."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser, Prediction, pin_known
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import Process, respacing
from glide.diffusion.repaint import repaint, repaint_schedule
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from glide.utils.errors import InputError

CORRELATION = 0.9
PROCESS = make_process("linear", 1000).respaced(respacing("20", 1000))


def paper_schedule(steps: int, jump: int, times: int) -> list[int]:
    """The states of the supplement's pseudocode, to -1, the clean picture."""
    jumps = dict.fromkeys(range(0, steps - jump, jump), times - 1)
    t, states = steps, []
    while t >= 1:
        t -= 1
        states.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(jump):
                t += 1
                states.append(t)
    return [*states, -1]


@pytest.mark.parametrize(
    ("steps", "jump", "times"), [(250, 10, 10), (50, 5, 10), (7, 3, 2), (7, 6, 2), (5, 1, 3), (4, 2, 1)]
)
def test_the_walk_is_the_papers(steps: int, jump: int, times: int) -> None:
    states = paper_schedule(steps, jump, times)
    downward = [a for a, b in pairwise(states) if b < a]
    assert repaint_schedule(steps, jump, times) == downward


def test_without_resampling_it_is_the_plain_way_down() -> None:
    assert repaint_schedule(5, 3, 1) == repaint_schedule(5, 100, 1) == [4, 3, 2, 1, 0]
    for steps, jump, times in ((5, 0, 2), (5, 2, 0), (5, 5, 2), (1, 1, 2)):
        with pytest.raises(InputError, match="jump of"):
            repaint_schedule(steps, jump, times)


def test_a_walk_that_would_never_end_is_refused() -> None:
    """Its length is known before any of it is listed."""
    assert len(repaint_schedule(1000, 1, 1000)) == 1000 + 999 * 999  # 999,001
    for jump, times in ((1, 1002), (5, 10**9), (1, 10**400)):
        with pytest.raises(
            InputError, match=r"resamplings in a run of 1000 steps, .* expected at most 1000000"
        ):
            repaint_schedule(1000, jump, times)


def gaussian(process: Process) -> Denoiser:
    """The ideal denoiser of two pixels, N(0, [[1, c], [c, 1]]): E[x0 | x_t] = a S (a^2 S + b^2 I)^-1 x_t."""
    cov = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)

    def denoise(x: Tensor, t: int) -> Prediction:
        alpha_bar = float(dict(zip(process.timesteps.tolist(), process.alpha_bar, strict=True))[t])
        gain = math.sqrt(alpha_bar) * cov @ torch.linalg.inv(alpha_bar * cov + (1 - alpha_bar) * torch.eye(2))
        return Prediction((x.flatten(1).double() @ gain.T).view_as(x).to(x.dtype))

    return denoise


def fill(times: int, sampler: str = "ddpm", count: int = 4000) -> Tensor:
    """The second pixel where the first one is 1.5, [N]."""
    image = torch.full((count, 1, 1, 2), 1.5)
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2).expand(count, -1, -1, -1)
    generator = torch.Generator().manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    denoise = pin_known(gaussian(PROCESS), image, mask)

    def steps(process: Process, x: Tensor):
        if sampler == "ddim":
            return ddim(process, denoise, x, noise, 0.0)
        return ancestral(process, denoise, x, noise, "fixed_small")

    *_, x = repaint(PROCESS, steps, noise(image), noise, image, mask, jump=2, times=times)
    assert torch.equal(x[..., 0], image[..., 0])  # what is known is there bit for bit
    return x[:, 0, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_resampling_brings_the_new_into_harmony_with_the_known(sampler: str) -> None:
    """The true conditional is N(c x, 1 - c^2): mean 1.35, deviation 0.436."""
    wanted = CORRELATION * 1.5
    errors = {times: abs(float(fill(times, sampler).mean()) - wanted) for times in (1, 3, 12)}
    assert errors[12] < 0.15 and errors[12] < errors[3] < errors[1], errors
    if sampler == "ddpm":
        assert abs(float(fill(12).std()) - math.sqrt(1 - CORRELATION**2)) < 0.15


@pytest.mark.slow
def test_known_pixels_have_the_noise_of_their_step() -> None:
    image, mask = torch.full((2000, 1, 1, 1), 0.5), torch.ones(2000, 1, 1, 1)
    noise = SeededNoise(range(2000))

    def steps(process: Process, x: Tensor):
        yield x * 0

    xs = list(repaint(PROCESS, steps, noise(image), noise, image, mask, jump=3, times=2))
    entries = repaint_schedule(len(PROCESS), 3, 2)
    assert len(xs) == len(entries) and torch.equal(xs[-1], image)
    for x, entry in list(zip(xs, entries, strict=True))[::7]:
        if entry:
            alpha_bar = float(PROCESS.alpha_bar[entry - 1])
            assert float(x.mean()) == pytest.approx(0.5 * math.sqrt(alpha_bar), abs=0.07)
            assert float(x.std()) == pytest.approx(math.sqrt(1 - alpha_bar), rel=0.07, abs=1e-3)


@pytest.mark.slow
def test_a_jump_up_is_the_forward_process() -> None:
    """A sampler that does nothing: after one jump the variance is that of the steps between."""
    x = torch.zeros(4000, 1, 1, 1)
    noise = SeededNoise(range(4000))
    seen: list[tuple[int, Tensor]] = []

    def steps(process: Process, x: Tensor):
        seen.append((len(process), x))
        yield x * 0

    list(repaint(PROCESS, steps, x, noise, x, torch.zeros_like(x), jump=4, times=2))
    ups = [x for _, x in seen if bool((x != 0).any())]
    low = range(0, len(PROCESS) - 4, 4)[::-1]
    assert len(ups) == len(low)
    for up, entry in zip(ups, low, strict=True):
        variance = 1 - PROCESS.alpha_bar[entry + 4] / PROCESS.alpha_bar[entry]
        assert float(up.std()) == pytest.approx(np.sqrt(variance), rel=0.05)
