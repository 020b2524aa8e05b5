"""Draw embeddings of pictures from captions, by a prior.

Shape letters: N captions, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predictor
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.registry import DEFAULT_SAMPLER, DEFAULT_STEPS, default_spacing, find_sampler
from glide.diffusion.timestep_spacing import space_timesteps
from glide.networks.prior import Prior
from glide.utils.errors import InputError
from guidance.base import Guidance
from guidance.classifier_free import ClassifierFree
from guidance.guided_denoiser import guide

DEFAULT_SCALE = 1.0
"""Of classifier-free guidance in a prior: none."""


@torch.no_grad()
def sample_embeddings(
    prior: Prior,
    captions: Sequence[str],
    seeds: Sequence[int],
    steps: int = DEFAULT_STEPS,
    scale: float = DEFAULT_SCALE,
    sampler: str = DEFAULT_SAMPLER,
) -> Tensor:
    """Embeddings [N,E] of pictures of the captions, float32, on the prior's device.

    seeds: one for each caption. scale: of classifier-free guidance. Each is drawn alone, in float32, so that it is the
    same whatever is drawn beside it. InputError for another number of seeds, steps that do not fit, or an unknown
    sampler.
    """
    if len(seeds) != len(captions):
        raise InputError(
            f"got {len(captions)} captions and {len(seeds)} seeds, expected one seed for each caption"
        )
    chosen = find_sampler(sampler)
    kept = space_timesteps(prior.process, str(steps), default_spacing(sampler, str(steps)))
    process = prior.process.respaced(kept)
    null = prior.encode(prior.caption_batch([""])) if scale != 1.0 else None
    width = prior.config.image_encoder.width
    found = [
        _draw(prior, process, prior.encode(prior.caption_batch([caption])), null, scale, seed, chosen.name)
        for caption, seed in zip(captions, seeds, strict=True)
    ]
    return torch.cat(found) if found else torch.empty(0, width, device=prior.device)


def _draw(
    prior: Prior,
    process: Process,
    cond: Conditioning,
    null: Conditioning | None,
    scale: float,
    seed: int,
    sampler: str,
) -> Tensor:
    """One embedding [1,E]."""
    predict = Predictor(prior.predict, prior.process, prior.config.process.prediction)
    guidances: list[Guidance] = [] if null is None else [ClassifierFree(scale, null)]
    noise = SeededNoise([seed])
    x = noise.randn((prior.config.image_encoder.width, 1, 1), prior.device)
    chosen = find_sampler(sampler)
    states = chosen.run(
        process,
        guide(predict, cond, guidances),
        x,
        noise,
        eta=0.0,
        variance=prior.config.process.variance,
    )
    for state in states:
        x = state
    if not bool(torch.isfinite(x).all()):
        raise InputError(
            "the prior drew values that are not finite (nan or infinite), which are no embedding: use a smaller "
            "scale, or other weights"
        )
    return prior.embeddings(x)
