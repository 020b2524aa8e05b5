"""A diffusion transformer of diffusers (DiTTransformer2DModel; DiT, 2212.09748) in the place of a U-Net.

Shape letters: N batch, C channels, H W latents, B blocks, E width of a block, V classes with the null class.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glide.networks.config import UNetConfig
from glide.networks.diffusers_model import DiffusersUNet
from glide.utils.errors import InputError


class DiffusersTransformer(DiffusersUNet):
    """A DiT: each block has its own embedding of the class. Attention layers are "block.0", "block.1", ..., of which
    one is "middle" too."""

    layer_names = re.compile(r"transformer_(block)s\.(\d+)\.attn1")

    def __init__(self, network: nn.Module, config: UNetConfig) -> None:
        super().__init__(network, config)
        self.attention_layers()["middle"].processor.names.add("middle")

    def take_class_embedding(self) -> nn.Embedding:
        """The embeddings of all blocks side by side, [V,B*E]; each block receives its part of the vector."""
        embedders = [block.norm1.emb for block in self.network.transformer_blocks]
        tables = [emb.class_embedder.embedding_table.weight for emb in embedders]
        for index, emb in enumerate(embedders):
            emb.class_embedder = _Part(index, tables[index].shape[1])
        return nn.Embedding.from_pretrained(torch.cat(tables, dim=1))

    def attention_layers(self) -> dict[str, Any]:
        layers = super().attention_layers()
        return layers | {"middle": layers[f"block.{len(layers) // 2}"]}

    def run_network(self, x: Tensor, t: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """As of a U-Net. InputError unless H is W."""
        if x.shape[-1] != x.shape[-2]:
            raise InputError(
                f"got latents of {x.shape[-1]}x{x.shape[-2]} for a transformer of diffusers, expected a square, as it "
                "draws no other pictures: give two equal lengths as the size"
            )
        return super().run_network(x, t, conditions)


class _Part(nn.Module):
    """In place of a block's embedding of classes: its part of the vector [N,B*E], [N,E]."""

    def __init__(self, index: int, width: int) -> None:
        super().__init__()
        self.part = slice(index * width, (index + 1) * width)

    def forward(self, vector: Tensor) -> Tensor:
        return vector[:, self.part]
