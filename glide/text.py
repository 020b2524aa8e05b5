"""The text transformer: caption tokens in, one embedding per token out (GLIDE, 2112.10741, section 3.1).

Shape letters: N batch, L tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.nn import attend, split_heads


class TextBlock(nn.Module):
    """Pre-norm attention and MLP; every token sees every other (no causal mask)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attn = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm_attn(x)).chunk(3, dim=-1)  # [N,L,D] each
        y = attend(*(split_heads(z, self.heads) for z in (q, k, v)))
        x = x + self.proj(y.transpose(1, 2).flatten(2))  # [N,heads,L,d] -> [N,L,D]
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))


class TextEncoder(nn.Module):
    """Token and position embeddings, transformer, final norm.

    Padding is not masked out: each padded position has an embedding of its own, which attention may use
    (GLIDE's `xf_padding`). So the null caption, all padding, is simply one more input.
    """

    def __init__(
        self, vocab: int, context: int, width: int, layers: int, heads: int, padding: bool, final_norm: bool
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Parameter(0.01 * torch.randn(context, width))
        self.padding = nn.Parameter(0.01 * torch.randn(context, width)) if padding else None
        self.blocks = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width) if final_norm else nn.Identity()
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """tokens [N,L] int64, mask [N,L] bool (True = a real token) -> [N,L,D]."""
        x = self.tokens(tokens) + self.positions
        if self.padding is not None:
            assert mask is not None
            x = torch.where(mask[..., None], x, self.padding)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)
