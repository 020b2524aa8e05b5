"""Reranking: of many pictures of one caption, those that a CLIP finds to fit it best (DALL-E, 2102.12092, section 2.6).

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from glide.utils.channels import in_mode
from glide.utils.errors import InputError
from glide.utils.images import as_image, from_uint8
from guidance.clip.network import NoisyClip
from guidance.clip.pretrained import CleanClip

BATCH = 32


@torch.no_grad()
def fit_of(clip: NoisyClip | CleanClip, images: Tensor, caption: str) -> Tensor:
    """f(x) . g(c), from -1 to 1, of each picture: [N] float32 on the CPU.

    clip: a noisy CLIP sees them at timestep 0, where there is next to no noise; one of latents encodes them. images
    [N,C,H,W] in [-1, 1], of any size. InputError for an empty caption, or one longer than the CLIP's context.
    """
    if not caption.strip():
        raise InputError("got an empty caption to rank pictures by, expected words: describe the picture")
    text = clip.embed_captions([caption])  # [1,E]
    parts = [(clip.embed_images(part.to(text.device)) * text).sum(dim=1) for part in images.split(BATCH)]
    return torch.cat(parts).float().cpu()


def rerank(clip: NoisyClip | CleanClip, images: Tensor, caption: str, keep: int) -> list[int]:
    """Which of N pictures fit the caption best: `keep` indices, the best first; of equals the earlier one.

    Arguments and errors as `fit_of`; InputError for a `keep` that is not 1 to N.
    """
    if not 1 <= keep <= len(images):
        raise InputError(
            f"got {keep} pictures to keep of {len(images)}, expected 1 to {len(images)}: keep fewer, or draw more"
        )
    order = torch.argsort(fit_of(clip, images, caption), descending=True, stable=True)
    return order[:keep].tolist()


def best_places(
    clip: NoisyClip | CleanClip, pixels: Tensor, captions: Sequence[str], keep: int = 1
) -> list[int]:
    """Which of all pictures fit best of those of the same caption: `keep` places for each caption, in order.

    pixels: uint8 [N*K,H,W,C], K pictures of each of N captions, one caption after the other. Errors as `rerank`.
    """
    each = len(pixels) // len(captions)  # K
    channels = clip.config.picture_channels if isinstance(clip, NoisyClip) else 3
    if pixels.shape[-1] != channels:
        seen = [np.asarray(in_mode(as_image(one), channels)) for one in pixels]
        pixels = torch.from_numpy(np.stack(seen).reshape(*pixels.shape[:-1], channels))
    groups = zip(pixels.split(each), captions, strict=True)
    best = [rerank(clip, from_uint8(group), caption, keep) for group, caption in groups]
    return [group * each + i for group, places in enumerate(best) for i in places]
