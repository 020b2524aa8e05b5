"""The predicted x0 as the input of a guide, with its gradient in x_t: decoded, where a model draws latents.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from glide.utils.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.diffusion.denoiser import Predict
    from glide.diffusion.process import Process
    from glide.networks.first_stage import FirstStage

X0Of = Callable[["Tensor", int], "Tensor"]
"""From x_t [N,C,H,W] and its training timestep to the predicted x0 [N,C,H,W], differentiable in x_t."""


def as_pictures(stage: FirstStage, x0: Tensor, channels: int, kind: str) -> Tensor:
    """x0 [N,c,h,w] of a model as pictures [N,C,H,W] of so many channels for a guide; differentiable.

    kind: what messages call the guide ("CLIP").

    A decoder is called for one picture after the other, and again in the backward pass, so that the activations of one
    picture alone are in memory: each step costs two decodings and a backward pass a picture. InputError for pictures
    that are not grey and have another number of channels.
    """
    import torch
    from torch.utils.checkpoint import checkpoint

    if stage.config is not None:
        parts = [
            checkpoint(stage.decode, one, use_reentrant=False, preserve_rng_state=False)
            for one in x0.split(1)
        ]
        x0 = torch.cat(parts)
    if x0.shape[1] == 1 and channels == 3:
        return x0.expand(-1, 3, -1, -1)
    if x0.shape[1] != channels:
        raise InputError(
            f"got a {kind} of {channels} channels for pictures of {x0.shape[1]}, expected as many: give another {kind}"
        )
    return x0


def through_network(predict: Predict, cond: Conditioning) -> X0Of:
    """The predicted x0 with its whole gradient in x_t.

    It costs a network call more at each step, and its backward pass, with the activations in memory: about three
    calls' time.
    """

    def x0_of(x: Tensor, t: int) -> Tensor:
        return predict(x, t, [cond])[0].x0

    return x0_of


def past_network(predict: Predict, cond: Conditioning, process: Process) -> X0Of:
    """The predicted x0, whose gradient takes the predicted noise for a constant: d x0 / d x_t = 1 / sqrt(alpha_bar).

    It costs a network call more at each step, and no backward pass. process: the training process. Where noise
    prevails the gradient is far too large (alpha_bar -> 0): give the guidance an interval that ends before.
    """

    import torch

    def x0_of(x: Tensor, t: int) -> Tensor:
        with torch.no_grad():
            x0 = predict(x, t, [cond])[0].x0
        return x0 + (x - x.detach()) / math.sqrt(process.alpha_bar[t])

    return x0_of
