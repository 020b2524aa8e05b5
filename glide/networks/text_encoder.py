"""The text transformer: from caption tokens to one embedding per token (GLIDE, 2112.10741, section 3.1).

Shape letters: N batch, L tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from glide.networks.gradient_checkpointing import checkpointed
from glide.networks.transformer import TransformerBlock


class TextEncoder(nn.Module):
    """Token and position embeddings, transformer, final norm.

    Padding is not masked out: each padded position has an embedding of its own, to which attention may attend (GLIDE's
    `xf_padding`). So the null caption, all padding, is one more input. Every token attends to all tokens or, with
    `causal` as in CLIP, to itself and those before it.
    """

    def __init__(
        self,
        vocab: int,
        context: int,
        width: int,
        layers: int,
        heads: int,
        padding: bool,
        final_norm: bool,
        causal: bool = False,
        pooled: Literal["last", "mean"] = "last",
    ) -> None:
        super().__init__()
        self.pooled = pooled
        self.gradient_checkpointing = False
        self.tokens = nn.Embedding(vocab, width)
        # As large as the later outputs of the blocks, which begin at zero: every word has an effect from the start.
        self.positions = nn.Parameter(0.5 * torch.randn(context, width))
        self.padding = nn.Parameter(0.5 * torch.randn(context, width)) if padding else None
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, causal) for _ in range(layers))
        self.norm = nn.LayerNorm(width) if final_norm else nn.Identity()

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [N,L] int64, mask [N,L] bool (True = a real token) -> [N,L,D]; L may be less than the context."""
        length = tokens.shape[1]
        x = self.tokens(tokens) + self.positions[:length]  # [N,L,D]
        if self.padding is not None:
            assert mask is not None
            x = torch.where(mask[..., None], x, self.padding[:length])
        for block in self.blocks:
            x = checkpointed(block, x, enabled=self.gradient_checkpointing)
        return self.norm(x)

    def read(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """batch: tokens [N,L], and mask [N,L] where there is padding -> tokens [N,L,D], and their pooled vector [N,D].

        Of the null caption, which has no tokens of its own, the mean is 0.
        """
        mask = batch.get("mask")
        tokens = self(batch["tokens"], mask)
        if self.pooled == "last":
            return tokens, tokens[:, -1]
        own = torch.ones_like(tokens[..., :1]) if mask is None else mask[..., None].to(tokens)  # [N,L,1]
        return tokens, (tokens * own).sum(dim=1) / own.sum(dim=1).clamp(min=1.0)
