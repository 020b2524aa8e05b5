"""The transformer block of the text encoder and of the vision transformer.

Shape letters: N batch, L tokens, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.cpu import dispatch
from glide.networks.layers import zero_init


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP over tokens, GPT-2's block: of captions, and of a picture's patches.

    x = x + proj(attention(qkv(norm_attn(x))))
    x = x + mlp_out(gelu(mlp_in(norm_mlp(x))))

    causal: token i attends to tokens 0 to i only.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_attn = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = zero_init(nn.Linear(width, width))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = zero_init(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """x [N,L,D] -> [N,L,D]."""
        qkv = self.qkv(self.norm_attn(x))  # [N,L,3D]
        x = x + self.proj(dispatch.self_attention(qkv, self.heads, causal=self.causal))
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))
