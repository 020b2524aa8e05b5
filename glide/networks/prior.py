"""The prior: a diffusion transformer from a caption to the embedding of a picture (DALL-E 2, 2204.06125, section 2.2).

An embedding of E numbers is treated as a picture of one pixel, [N,E,1,1], so processes, samplers and guidances are
those of pictures.

Shape letters: N batch, E embedding width, L caption tokens, W width of the text encoder, D width of the prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.process import Process
from glide.networks.gradient_checkpointing import checkpointed
from glide.networks.layers import timestep_embedding
from glide.networks.prior_config import PriorConfig
from glide.networks.text_encoder import TextEncoder
from glide.networks.transformer import TransformerBlock
from glide.utils.errors import InputError

if TYPE_CHECKING:
    from glide.networks.tokenizer import Tokenizer


class Prior(nn.Module):
    """A transformer over the caption's tokens, its pooled vector, the timestep, the noised embedding and one learned
    token, whose output is the prediction of x0.

    Unlike the published one it is not causal: every token attends to all others, so its text tokens can depend on the
    embedding too.
    """

    def __init__(self, config: PriorConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.gradient_checkpointing = False
        c, width, numbers = config.text, config.width, config.image_encoder.width
        self.text = TextEncoder(
            c.vocab, c.context, c.width, c.layers, c.heads, c.padding, c.final_norm, pooled=c.pooled
        )
        self.token_in = nn.Linear(c.width, width)
        self.vector_in = nn.Linear(c.width, width)
        self.time_in = nn.Linear(width, width)
        self.time_out = nn.Linear(width, width)
        self.embedding_in = nn.Linear(numbers, width)
        self.prediction_token = nn.Parameter(0.5 * torch.randn(width))
        self.blocks = nn.ModuleList(TransformerBlock(width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, numbers)
        nn.init.zeros_(self.head.weight)  # the mean embedding, until something was learned
        nn.init.zeros_(self.head.bias)
        count = len(config.mean)
        mean, std = (config.mean, config.std) if count else ((0.0,) * numbers, (1.0,) * numbers)
        self._mean, self._std = (torch.tensor(values, device="cpu") for values in (mean, std))

    @cached_property
    def process(self) -> Process:
        return self.config.process.build()

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def normalise(self, embeddings: Tensor) -> Tensor:
        """Embeddings of the image encoder [N,E] -> what the prior draws, [N,E,1,1]: mean 0 and deviation 1."""
        mean, std = self._mean.to(embeddings.device), self._std.to(embeddings.device)
        return ((embeddings.float() - mean) / std)[:, :, None, None]

    def embeddings(self, x0: Tensor) -> Tensor:
        """The inverse of `normalise`: [N,E,1,1] -> [N,E], of norm 1 where the encoder's are."""
        z = x0.flatten(1).float() * self._std.to(x0.device) + self._mean.to(x0.device)
        return F.normalize(z, dim=1) if self.config.unit else z

    def encode(self, batch: Mapping[str, Tensor]) -> Conditioning:
        """The conditioning of captions: tokens [N,L] int64 with mask [N,L] bool -> tokens [N,L,W], vector [N,W]."""
        tokens, vector = self.text.read(batch)
        return Conditioning(vector=vector, tokens=tokens)

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """x_t [N,E,1,1] at training timesteps t [N], conditioned on captions -> prediction [N,E,1,1]."""
        assert cond.tokens is not None and cond.vector is not None
        features = timestep_embedding(t, self.config.width).to(self.time_in.weight.dtype)
        parts = [
            self.token_in(cond.tokens),  # [N,L,D]
            self.vector_in(cond.vector)[:, None],
            self.time_out(F.silu(self.time_in(features)))[:, None],
            self.embedding_in(x.flatten(1).to(self.embedding_in.weight.dtype))[:, None],
            self.prediction_token.expand(len(x), 1, -1),
        ]
        h = torch.cat(parts, dim=1)  # [N,L+4,D]
        for block in self.blocks:
            h = checkpointed(block, h, enabled=self.gradient_checkpointing)
        return self.head(self.norm(h[:, -1]))[:, :, None, None]

    def forward(self, x: Tensor, t: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """x_t [N,E,1,1] at training timesteps t [N], batch as of `encode` -> [N,E,1,1]."""
        return self.predict(x, t, self.encode(batch))

    def caption_batch(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Captions -> tokens and mask on the prior's device; "" is the null caption."""
        if self.tokenizer is None:
            raise InputError("this prior has no tokenizer, so it reads no captions: load its whole folder")
        tokens, mask = self.tokenizer.encode(list(captions))
        return {"tokens": tokens.to(self.device), "mask": mask.to(self.device)}
