"""Guidance by a CLIP, towards pictures that fit a caption: a noisy one looks at x_t, a clean one at the predicted x0.

Shape letters: N pictures, C channels, H W pixels, E embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predict
from glide.diffusion.process import Process
from glide.networks.config import ModelConfig
from glide.utils.errors import InputError
from glide.utils.mixed_precision import computing_in
from guidance.base import EVERYWHERE
from guidance.clip.network import NoisyClip
from guidance.clip.pretrained import CleanClip
from guidance.compatibility import check_fits
from guidance.likelihood import LogLikelihood, in_rows


def clip_guidance(
    clip: NoisyClip,
    captions: str | Sequence[str],
    scale: float,
    interval: tuple[int, int] = EVERYWHERE,
    *,
    model: ModelConfig | None = None,
    dtype: torch.dtype = torch.float32,
    call_size: int | None = None,
) -> LogLikelihood:
    """Adds scale * d (tau f(x_t, t) . g(c)) / d x_t (GLIDE, 2112.10741, section 2.4), tau = clip.scale.

    tau f . g is log p(c | x_t), up to what does not depend on x_t, so scale 1 is Bayes' rule. The captions are encoded
    once, here.
    clip: on the pictures' device; it is put in eval mode, its weights are frozen. captions: one for all pictures, or
    one for each of N. interval: training timesteps, both ends included. model: of the diffusion model to steer, whose
    resolution, channels and noise must be the CLIP's. dtype: what the CLIP runs in, by autocast where its weights are
    of another. call_size: pictures in one call of the CLIP, all by default; a fixed number makes a gradient independent
    of how many pictures there are, to the last bit.
    InputError for an empty caption, one longer than the CLIP's context, or a CLIP that does not fit the model.
    """
    if model is not None:
        check_fits("CLIP", clip.config.image_size, 3, clip.config.process, model)
    clip.eval().requires_grad_(False)
    text, within = _embed(clip, captions), _left(clip, dtype)  # [N,E] or [1,E]

    def clip_log_prob(x: Tensor, t: int, g: Tensor) -> Tensor:
        steps = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        with computing_in(within, x.device):
            f = clip.encode_image(x, steps)  # [N,E]
        return clip.scale * (f * g).sum(dim=1)

    return LogLikelihood(in_rows(clip_log_prob, text, "captions", call_size), scale, interval)


X0Of = Callable[[Tensor, int], Tensor]
"""From x_t [N,C,H,W] and its training timestep to the predicted x0 [N,C,H,W], differentiable in x_t."""


def clean_clip_guidance(
    clip: CleanClip | NoisyClip,
    captions: str | Sequence[str],
    scale: float,
    x0_of: X0Of,
    interval: tuple[int, int] = EVERYWHERE,
    *,
    dtype: torch.dtype = torch.float32,
    call_size: int | None = None,
) -> LogLikelihood:
    """Adds scale * d (tau f(x0(x_t)) . g(c)) / d x_t (universal guidance, 2302.07121, eq. 6), tau = clip.scale.

    x0_of: `through_network` or `past_network`, which say what they cost. dtype: what a noisy CLIP runs in; it is told
    that the picture is clean. Everything else, and the errors, as `clip_guidance`.
    """
    within = torch.float32  # others have their own ways
    if isinstance(clip, NoisyClip):
        clip.eval().requires_grad_(False)
        within = _left(clip, dtype)
    text = _embed(clip, captions)  # [N,E] or [1,E]

    def of_x0(x0: Tensor, t: int, g: Tensor) -> Tensor:
        with computing_in(within, x0.device):
            f = clip.embed_images(x0)
        return clip.scale * (f * g).sum(dim=1)

    of_rows = in_rows(of_x0, text, "captions", call_size)

    def clean_clip_log_prob(x: Tensor, t: int) -> Tensor:
        return of_rows(x0_of(x, t), t)

    return LogLikelihood(clean_clip_log_prob, scale, interval)


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

    def x0_of(x: Tensor, t: int) -> Tensor:
        with torch.no_grad():
            x0 = predict(x, t, [cond])[0].x0
        return x0 + (x - x.detach()) / math.sqrt(process.alpha_bar[t])

    return x0_of


def _left(clip: NoisyClip, dtype: torch.dtype) -> torch.dtype:
    """What autocast is left to compute in: float32 where the tower for pictures has weights of that type already."""
    return torch.float32 if any(p.dtype == dtype for p in clip.image.parameters()) else dtype


def _embed(clip: CleanClip | NoisyClip, captions: str | Sequence[str]) -> Tensor:
    """Captions -> [N,E], fit to take part in a gradient. InputError for none, an empty or a too long one."""
    wanted = [captions] if isinstance(captions, str) else list(captions)
    if not wanted or not all(caption.strip() for caption in wanted):
        raise InputError(
            "got an empty caption for CLIP guidance, expected words to guide towards: describe the picture"
        )
    with torch.inference_mode(False):  # its tensors could take no part in any gradient
        return clip.embed_captions(wanted)
