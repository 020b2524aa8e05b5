"""DDIM inversion by a pipeline: pictures to the noise that they would be drawn from, and back.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glide.diffusion.ddim_inversion import ITERATIONS, invert, picture_of, revert
from glide.networks.image_request import ImageRequest
from glide.utils.errors import InputError
from guidance.base import Guidance
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.known_pixels import begin
from toolkit.pipelines.settings import SamplingConfig

OnStep = Callable[[], object]


def encode(
    pipe: BasePipeline,
    pictures: Sequence[ImageRequest],
    settings: SamplingConfig,
    iterations: int = ITERATIONS,
    on_step: OnStep = lambda: None,
) -> Tensor:
    """The latents [N,C,H,W], on the CPU, of N pictures whose `given.start` they are.

    At the noise of the settings' strength, under their guidance; sampler and eta do not matter. The same whatever
    other pictures are encoded beside one. on_step: called after each of the steps. InputError for pictures without a
    start, of another size, or that do not fit the model.
    """
    loop = pipe.loop(pictures, settings)
    if len(loop.process) < 2:
        raise InputError("got one step to invert pictures by, expected at least 2: give --steps 100")
    nothing = torch.zeros(len(loop.rows), pipe.model.config.unet.in_channels, *loop.size)
    starts = [row.given.start for row in loop.rows if row.given.start is not None]
    begin(loop.rows, loop.process, nothing, 0.0)  # says what does not fit
    picture = torch.stack(starts).to(pipe.device).contiguous(memory_format=torch.channels_last)
    for x in invert(loop.process, loop.denoise, picture, iterations):
        latent = x
        on_step()
    return latent[loop.padding.real].cpu().contiguous()


def decode(
    pipe: BasePipeline,
    pictures: Sequence[ImageRequest],
    settings: SamplingConfig,
    guidances: Sequence[Guidance] = (),
    on_step: OnStep = lambda: None,
) -> Tensor:
    """Pictures [N,C,H,W], on the CPU, from their `given.latent`, as `encode` made it: its way back.

    guidances: further ones, as of `Pipeline.draw`. on_step: called after each of the steps. Errors as of `encode`.
    """
    loop = pipe.loop(pictures, settings, guidances)
    nothing = torch.zeros(len(loop.rows), pipe.model.config.unet.in_channels, *loop.size, device=pipe.device)
    x = begin(loop.rows, loop.process, nothing, 0.0).contiguous(memory_format=torch.channels_last)
    for after in revert(loop.process, loop.denoise, x):
        x = after
        on_step()
    return loop.decode(picture_of(loop.process, x)[loop.padding.real]).cpu().contiguous()


def psnr(a: Tensor, b: Tensor) -> list[float]:
    """Peak signal-to-noise ratio in dB of each of N pictures [N,C,H,W] in [-1, 1]; infinite for equal ones."""
    errors = (a.double() - b.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(4 / errors)).tolist()
