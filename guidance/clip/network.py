"""The noisy CLIP: how well a picture at any noise level fits a caption (GLIDE, 2112.10741, section 2.4).

Shape letters: N batch, C channels, H W pixels, L tokens, E embedding width.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.process import Process
from glide.networks.first_stage import stage_of
from glide.networks.text_encoder import TextEncoder
from glide.networks.vision_transformer import ImageEncoder
from glide.utils.errors import InputError
from guidance.classifier.config import ClassifierConfig
from guidance.classifier.network import NoisyClassifier
from guidance.clip.config import ClipConfig

if TYPE_CHECKING:
    from glide.networks.tokenizer import Tokenizer

MAX_SCALE = 100.0  # CLIP (2103.00020), section 2.5: above it training becomes unstable


class NoisyClip(nn.Module):
    """Two networks, one for pictures at a timestep and one for captions, whose unit vectors are compared.

    Captions are read by a transformer; where the configuration has padding embeddings each word sees all others, as in
    a diffusion model, else those before it.

    After training, exp(scale * f(x_t, t) . g(c)) is p(c | x_t) / p(c) up to a factor, so its logarithm guides.
    """

    def __init__(self, config: ClipConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.first_stage = stage_of(config.first_stage)
        """From pictures to what its picture tower sees."""
        c = config.text
        self.text = TextEncoder(
            c.vocab, c.context, c.width, c.layers, c.heads, c.padding, c.final_norm, causal=not c.padding
        )
        self.text_head = nn.Linear(c.width, config.embedding, bias=False)
        self.image: nn.Module
        if config.trunk is None:
            self.image = ImageEncoder(config.image, config.process.steps, config.embedding)
        else:  # a classifier's network, whose classes are the axes of the space
            self.image = NoisyClassifier(
                ClassifierConfig(
                    config.trunk, config.embedding, process=config.process, first_stage=config.first_stage
                )
            )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # CLIP, section 2.5

    @cached_property
    def process(self) -> Process:
        return self.config.process.build()

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    @property
    def scale(self) -> Tensor:
        """The factor on f . g, a scalar from 0 to 100: the inverse temperature. At 100 itself it has a gradient."""
        most = math.log(MAX_SCALE)
        # `clamp` has none there from torch 2.14 on, and would keep it there for ever
        return torch.where(self.logit_scale > most, most, self.logit_scale).exp()

    def encode_image(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x_t, t): x_t [N,C,H,W], of pictures in [-1, 1] or of latents, at training timesteps t [N] int64 -> [N,E],
        unit norm."""
        return unit(self.image(x, t))

    def encode_text(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """g(c): tokens [N,L] int64, mask [N,L] bool (True = a real token) -> [N,E], unit norm.

        Read out at the last real token, or at the mean of all of them.
        """
        count = mask.sum(dim=1)
        if not self.config.text.padding:  # padding comes last, where nobody looks: it is left out
            longest = max(1, int(count.max()))
            tokens, mask = tokens[:, :longest], mask[:, :longest]
        h = self.text(tokens, mask)  # [N,L,D]
        if self.config.text.pooled == "mean":
            h = (h * mask[..., None]).sum(dim=1) / count.clamp(min=1)[:, None]
        else:
            h = h[torch.arange(len(h), device=h.device), (count - 1).clamp(min=0)]
        return unit(self.text_head(h))  # [N,D] -> [N,E]

    def caption_batch(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Captions -> tokens and mask on the CLIP's device; one that is too long is cut, with a warning."""
        if self.tokenizer is None:
            raise InputError(
                "this CLIP has no tokenizer, so it reads no captions: load it with CLIP's vocabulary, a folder with "
                "vocab.json and merges.txt"
            )
        tokens, mask = self.tokenizer.encode(list(captions))
        return tokens.to(self.device), mask.to(self.device)

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Captions -> [N,E], unit norm; each is encoded once and alone, so that others do not change its last bits.

        InputError for one that is longer than the context.
        """
        found: dict[str, Tensor] = {}
        for caption in captions:
            if caption not in found:
                found[caption] = self.encode_text(*self._whole(caption))
        return torch.cat([found[caption] for caption in captions])

    def embed_images(self, images: Tensor) -> Tensor:
        """Clean pictures [N,C,H,W] in [-1, 1], of any size -> [N,E], unit norm; differentiable, unless they are encoded
        for a CLIP of latents."""
        size = self.config.picture_size
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
        return self.embed_clean(self.first_stage.encode(images.to(self.device)))

    def embed_clean(self, x0: Tensor) -> Tensor:
        """Clean pictures in [-1, 1], or latents, [N,C,H,W] -> [N,E], unit norm; differentiable.

        InputError for another size or number of channels than the CLIP's.
        """
        expected = (self.config.channels, self.config.image_size, self.config.image_size)
        if x0.shape[1:] != expected:
            raise InputError(
                f"got {'x'.join(map(str, x0.shape[1:]))} numbers for a CLIP of {'x'.join(map(str, expected))}, "
                "expected the same: give a CLIP of that size"
            )
        t = torch.zeros(len(x0), dtype=torch.int64, device=self.device)
        return self.encode_image(x0.to(self.device), t)

    def _whole(self, caption: str) -> tuple[Tensor, Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            try:
                return self.caption_batch([caption])
            except UserWarning as warning:  # a picture would be guided by half of what was asked for
                raise InputError(f"for the CLIP that guides, {warning}: shorten the caption") from None


def unit(x: Tensor) -> Tensor:
    """[...,E] scaled to norm 1, in float32 at least."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def check_tokenizer(clip: NoisyClip, where: str) -> None:
    """InputError where a CLIP's tokenizer does not fit its text transformer."""
    tokenizer, text = clip.tokenizer, clip.config.text
    if tokenizer and (tokenizer.n_vocab > text.vocab or tokenizer.context != text.context):
        raise InputError(
            f"the tokenizer of {where} has {tokenizer.n_vocab} tokens and context {tokenizer.context}, the CLIP "
            f"{text.vocab} and {text.context}: give files of one model"
        )
