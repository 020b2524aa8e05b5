"""Clean CLIPs: any object with encode_image and encode_text, made to guide by the predicted picture, and to judge.

Shape letters: N pictures, C channels, H W pixels, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.conditioning import Cond
from glide.denoise import Predict
from glide.errors import InputError
from guidance.clip import unit
from guidance.clip_guidance import embed, rows
from guidance.clip_openai import MEAN, STD
from guidance.compose import EVERYWHERE
from guidance.likelihood import LogLikelihood

X0Of = Callable[[Tensor, int], Tensor]
"""From x_t [N,C,H,W] and its training timestep to the predicted x0 [N,C,H,W], differentiable in x_t."""


class ImageText(Protocol):
    """What guides and judges: embeddings of unit norm. A `NoisyClip` is one, a `CleanClip` another."""

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """[N,E], without a gradient; InputError for a caption longer than the context."""

    def embed_images(self, images: Tensor) -> Tensor:
        """Clean pictures [N,3,H,W] in [-1, 1], of any size -> [N,E]."""


@dataclass(frozen=True, eq=False)
class CleanClip:
    """A CLIP that was trained on clean pictures, behind one face.

    image: pictures [N,3,size,size], of mean 0 and deviation 1 -> [N,E]. text: captions -> [N,E]. scale: the factor on
    the product of the unit vectors. mean, std: of its pictures, from 0 to 1.
    """

    image: Callable[[Tensor], Tensor]
    text: Callable[[Sequence[str]], Tensor]
    size: int
    scale: float = 100.0
    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD

    def embed_images(self, images: Tensor) -> Tensor:
        """As `ImageText`; differentiable."""
        if images.shape[-2:] != (self.size, self.size):
            shrink = self.size < min(images.shape[-2:])
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=shrink)
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (self.mean, self.std))
        return unit(self.image(((images + 1) / 2 - mean) / std))

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        return unit(self.text(list(captions)))


def adapt(model: Any, tokenize: Callable[[list[str]], Any] | None = None, size: int | None = None) -> CleanClip:
    """A CLIP of another library behind our face; its weights are frozen.

    model: transformers' CLIPModel, or any object with encode_image and encode_text: OpenAI's `clip`, `open_clip`.
    tokenize: transformers' tokenizer, `clip.tokenize`, or `open_clip.get_tokenizer(name)`.
    size: of its pictures, where the model does not say.
    InputError for another object, or without a tokenizer or size; a caption longer than the context is one later.
    """
    if isinstance(model, nn.Module):
        model.eval().requires_grad_(False)
    if tokenize is None:
        raise InputError("got a CLIP without a tokenizer, expected one: give the one that belongs to it")
    if hasattr(model, "get_image_features"):
        return _of_transformers(model, cast(Callable[..., Any], tokenize))
    if not (hasattr(model, "encode_image") and hasattr(model, "encode_text")):
        raise InputError(
            f"got a {type(model).__name__} as a CLIP, expected an object with encode_image and encode_text: give "
            "one of clip, open_clip or transformers"
        )
    visual = getattr(model, "visual", None)
    found = size or getattr(visual, "input_resolution", None) or getattr(visual, "image_size", None)
    side = found[0] if isinstance(found, tuple) else found
    if not isinstance(side, int):
        raise InputError("got a CLIP that does not say how large its pictures are: give their size in pixels")
    context = getattr(model, "context_length", None)

    def text(captions: Sequence[str]) -> Tensor:
        try:
            tokens = tokenize(list(captions))
        except RuntimeError as error:  # clip's, for a caption that is too long
            raise InputError(f"the caption does not fit the CLIP that guides ({error}): shorten it") from None
        if context is not None:
            _check_room(tokens, context)
        return model.encode_text(tokens.to(_device(model)))

    return CleanClip(
        lambda x: model.encode_image(x.to(_dtype(model))),
        text,
        side,
        _scale(model),
        getattr(visual, "image_mean", None) or MEAN,
        getattr(visual, "image_std", None) or STD,
    )
