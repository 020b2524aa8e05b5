"""Guidance by a CLIP, towards pictures that fit a caption: a noisy one looks at x_t, a clean one at the predicted x0.

Shape letters: N pictures, C channels, H W pixels, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.entry import GuidanceEntry, Interval, Option
from guidance.predicted_x0 import X0Of, as_pictures, through_network

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from glide.networks.config import ModelConfig
    from glide.networks.first_stage import FirstStage
    from guidance.clip.network import NoisyClip
    from guidance.clip.pretrained import CleanClip
    from guidance.context import GuidanceInputs
    from guidance.likelihood import LogLikelihood


def clip_guidance(
    clip: NoisyClip,
    captions: str | Sequence[str],
    scale: float,
    interval: tuple[int, int] = EVERYWHERE,
    *,
    model: ModelConfig | None = None,
    dtype: torch.dtype | None = None,
    call_size: int | None = None,
) -> LogLikelihood:
    """Adds scale * d (tau f(x_t, t) . g(c)) / d x_t (GLIDE, 2112.10741, section 2.4), tau = clip.scale.

    tau f . g is log p(c | x_t), up to what does not depend on x_t, so scale 1 is Bayes' rule. The captions are encoded
    once, here. clip: on the pictures' device; it is put in eval mode, its weights are frozen. captions: one for all
    pictures, or one for each of N. interval: training timesteps, both ends included. model: of the diffusion model to
    steer, whose resolution, channels, noise and first stage must be the CLIP's. dtype: what the CLIP runs in, float32
    by default, by autocast where its weights are of another. call_size: pictures in one call of the CLIP, all by
    default; a fixed number makes a gradient independent of how many pictures there are, to the last bit. InputError for
    an empty caption, one longer than the CLIP's context, or a CLIP that does not fit the model.
    """
    import torch

    from glide.utils.mixed_precision import computing_in
    from guidance.compatibility import check_fits
    from guidance.likelihood import LogLikelihood, in_rows

    if model is not None:
        ours = clip.config
        check_fits("CLIP", ours.image_size, ours.channels, ours.process, model, ours.first_stage)
    clip.eval().requires_grad_(False)
    text, within = _embed(clip, captions), _autocast_dtype(clip, dtype)  # [N,E] or [1,E]

    def clip_log_prob(x: Tensor, t: int, g: Tensor) -> Tensor:
        steps = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        with computing_in(within, x.device):
            f = clip.encode_image(x, steps)  # [N,E]
        return clip.scale * (f * g).sum(dim=1)

    return LogLikelihood(in_rows(clip_log_prob, text, "captions", call_size), scale, interval)


def clean_clip_guidance(
    clip: CleanClip | NoisyClip,
    captions: str | Sequence[str],
    scale: float,
    x0_of: X0Of,
    interval: tuple[int, int] = EVERYWHERE,
    *,
    first_stage: FirstStage | None = None,
    dtype: torch.dtype | None = None,
    call_size: int | None = None,
) -> LogLikelihood:
    """Adds scale * d (tau f(x0(x_t)) . g(c)) / d x_t (universal guidance, 2302.07121, eq. 6), tau = clip.scale.

    x0_of: `through_network` or `past_network` of `guidance.predicted_x0`, which say what they cost. first_stage: of a
    model that draws latents: x0 is decoded (`as_pictures`), except for a noisy CLIP of the same latents. dtype: what a
    noisy CLIP runs in; its timestep says that the picture is clean. Everything else, and the errors, as
    `clip_guidance`; InputError, too, for a CLIP of other latents.
    """
    import torch

    from glide.networks.first_stage import PIXELS
    from glide.utils.mixed_precision import computing_in
    from guidance.clip.network import NoisyClip
    from guidance.compatibility import check_first_stages
    from guidance.likelihood import LogLikelihood, in_rows

    stage = first_stage or PIXELS
    within = torch.float32  # others have their own ways
    embed: Callable[[Tensor], Tensor] = clip.embed_images
    channels = 3
    if isinstance(clip, NoisyClip):
        clip.eval().requires_grad_(False)
        within, channels = _autocast_dtype(clip, dtype), clip.config.picture_channels
        if clip.config.first_stage is not None:
            check_first_stages("CLIP", clip.config.first_stage, stage.config)
            embed, stage, channels = clip.embed_clean, PIXELS, clip.config.channels
    text = _embed(clip, captions)  # [N,E] or [1,E]

    def of_x0(x0: Tensor, t: int, g: Tensor) -> Tensor:
        pictures = as_pictures(stage, x0, channels, "CLIP")
        with computing_in(within, x0.device):
            f = embed(pictures)
        return clip.scale * (f * g).sum(dim=1)

    of_rows = in_rows(of_x0, text, "captions", call_size)

    def clean_clip_log_prob(x: Tensor, t: int) -> Tensor:
        return of_rows(x0_of(x, t), t)

    return LogLikelihood(clean_clip_log_prob, scale, interval)


def _autocast_dtype(clip: NoisyClip, dtype: torch.dtype | None) -> torch.dtype:
    """The type for autocast: float32 where the image tower has weights of `dtype` already, or dtype is None."""
    import torch

    lowered = dtype is None or any(p.dtype == dtype for p in clip.image.parameters())
    return torch.float32 if lowered or dtype is None else dtype


def _embed(clip: CleanClip | NoisyClip, captions: str | Sequence[str]) -> Tensor:
    """Captions -> [N,E], fit to take part in a gradient. InputError for none, an empty or a too long one."""
    import torch

    wanted = [captions] if isinstance(captions, str) else list(captions)
    if not wanted or not all(caption.strip() for caption in wanted):
        raise InputError(
            "got an empty caption for CLIP guidance, expected words to guide towards: describe the picture"
        )
    with torch.inference_mode(False):  # its tensors could take no part in any gradient
        return clip.embed_captions(wanted)


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> Guidance:
    """Guide each picture towards its caption: by a noisy CLIP of x_t, or by any CLIP of the predicted x0."""
    from guidance.clip.network import NoisyClip
    from guidance.compatibility import check_drawn_size

    context = inputs.context
    network = context.guide_networks.clip(inputs.options)
    captions = [request.caption for request in inputs.requests]
    dtype, call_size = context.dtype, context.call_size
    if isinstance(network, NoisyClip) and inputs.options.clip_sees == "xt":
        model = context.model.config
        if network.config.first_stage is None and model.first_stage is not None:
            raise InputError(
                "got a noisy CLIP of pixels for a model that draws latents, expected one of the same latents: train "
                "one with the model's autoencoder, or let it see decoded pictures (--clip-sees x0)"
            )
        made = clip_guidance(
            network, captions, scale, interval, model=model, dtype=dtype, call_size=call_size
        )
        check_drawn_size("CLIP", network.config.image_size, inputs.size)
        return made
    if isinstance(network, NoisyClip) and network.config.first_stage is not None:
        check_drawn_size("CLIP", network.config.image_size, inputs.size)
    x0_of = through_network(context.predict, inputs.cond)
    stage = context.model.first_stage
    return clean_clip_guidance(
        network, captions, scale, x0_of, interval, first_stage=stage, dtype=dtype, call_size=call_size
    )


ENTRY = GuidanceEntry(
    "clip",
    "by the CLIP --clip, up to 0.9 of the timesteps",
    build,
    scale=2.0,
    options=(
        Option(
            "clip",
            str,
            "shapes-clip",
            "NAME",
            "A noisy CLIP, or a clean one of transformers: a folder, an embedded one, glide-clip, .pt, or a hub id.",
        ),
        Option(
            "clip_sees",
            str,
            "xt",
            "{xt,x0}",
            "The input of a noisy CLIP: xt, the noisy picture, or x0, the one that the model predicts behind it, as a "
            "clean CLIP always does: surer, but at each step a network call and its gradient more.",
            choices=("xt", "x0"),
        ),
        Option(
            "clip_vocab",
            str | None,
            None,
            "NAME",
            "For the published .pt pair: folder or hub id of CLIP's vocabulary. By default fetched from the hub.",
        ),
    ),
    captions=True,
    acts=(0.0, 0.9),
)
