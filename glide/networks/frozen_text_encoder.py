"""Frozen text encoders of another library (Imagen, 2205.11487, section 2.1), and what is learned on top of them.

`PretrainedText` holds the encoder and is no module, so none of its weights is in a model's state, average, optimizer or
checkpoint. `FrozenText` is the learned part, which the model holds.

Shape letters: N batch, L tokens (the context), l tokens of the longest caption, D width of the encoder, W token width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor, nn

from glide.networks.frozen_text_config import FrozenTextConfig, Kind
from glide.networks.tokenizer import Tokenizer
from glide.utils.errors import InputError


class FrozenTokenizer(Tokenizer):
    """The encoder's own tokenizer: captions as they are, its special tokens among the L of the context."""

    def _normalized(self, text: str) -> str:
        return text


@dataclass(frozen=True, eq=False)
class PretrainedText:
    """A text encoder of transformers with its tokenizer, in eval mode, its weights frozen."""

    kind: Kind
    network: nn.Module
    vocabulary: str
    """The tokenizer as JSON of the `tokenizers` library."""
    pad: int
    """Id that fills a row up."""
    width: int
    positions: int | None
    """The most tokens that it takes; None: any number."""
    fingerprint: str
    own_tokenizer: Any
    """transformers' own, to be saved beside the network."""
    commit: str | None = None
    """Of the hub."""

    def __deepcopy__(self, memo: dict[int, Any]) -> PretrainedText:
        return self  # a copy of a model shares it: nothing in it changes

    def tokenizer(self, context: int) -> FrozenTokenizer:
        """Its tokenizer for captions of L = context tokens."""
        return FrozenTokenizer(FastTokenizer.from_str(self.vocabulary), context, self.pad)

    def encode(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None]:
        """tokens [N,L] int64, mask [N,L] bool (True = a real token) -> its outputs [N,L,D] and, of a CLIP, the one at
        the end of each caption [N,D]; float32 on the device of `tokens`, 0 where a position is padding.

        A token attends to no padding, so the outputs do not depend on L.
        """
        network = self.network.to(tokens.device)
        length = max(1, int(mask.sum(dim=1).max()))  # l; padding comes last
        ids, seen = tokens[:, :length], mask[:, :length]
        seen = seen | (
            torch.arange(length, device=mask.device) < 1
        )  # one token at least, or softmax has no sum
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(tokens.device.type, enabled=False),
        ):
            output = network(input_ids=ids.clone(), attention_mask=seen.long())
            hidden = output.last_hidden_state.float() * mask[:, :length, None]  # [N,l,D]
            hidden = F.pad(hidden, (0, 0, 0, tokens.shape[1] - length))  # [N,L,D]
            return hidden, output.pooler_output.float() if self.kind == "clip" else None


class FrozenText(nn.Module):
    """The learned part: layer norm and projection of the encoder's outputs, and embeddings of padded positions.

    tokens = proj(norm(encoded)) where a token is real, `padding` elsewhere.

    The norm is Imagen's (2205.11487, section 2.3), where it helped much; it also makes encoders of any scale alike.
    Padded positions have learned embeddings, as in this project's own text encoder (GLIDE's): attention needs no mask
    then, in none of its kernels, and it can learn to pass them over. The encoder's own outputs at padding, which latent
    diffusion attends to, are not used: they depend on the token that it pads with.
    """

    encoder: PretrainedText | None

    def __init__(self, config: FrozenTextConfig) -> None:
        """config: with all widths known. The encoder comes later, by `Model.use_encoder`."""
        super().__init__()
        assert config.encoder_width and config.width and config.context
        self.config = config
        self.encoder = None
        self.norm = nn.LayerNorm(config.encoder_width)
        self.proj = nn.Linear(config.encoder_width, config.width)
        self.padding = nn.Parameter(0.5 * torch.randn(config.context, config.width))
        self.norm_pooled = nn.LayerNorm(config.encoder_width) if config.pooled != "none" else None

    def encode(self, tokens: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The frozen part: tokens and mask [N,L] -> encoded [N,L,D], mask [N,L], and end [N,D] where it is used."""
        if self.encoder is None:
            raise InputError(
                "got captions for a model without its frozen text encoder, expected it: load the model by its folder"
            )
        encoded, end = self.encoder.encode(tokens, mask)
        found = {"encoded": encoded, "mask": mask}
        return found | {"end": end} if end is not None and self.config.pooled == "end" else found

    def read(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """batch: tokens and mask [N,L], or the result of `encode` -> tokens [N,L,W], and the pooled vector [N,D] where
        there is one."""
        known = batch if "encoded" in batch else self.encode(batch["tokens"], batch["mask"])
        encoded, mask = known["encoded"], known["mask"][..., None]  # [N,L,D], [N,L,1]
        dtype = self.proj.weight.dtype
        tokens = self.proj(self.norm(encoded.to(dtype)))  # [N,L,W]
        tokens = torch.where(mask, tokens, self.padding[: mask.shape[1]].to(tokens.dtype))
        if self.norm_pooled is None:
            return tokens, None
        if self.config.pooled == "end":
            pooled = known["end"]
        else:
            pooled = (encoded * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # [N,D]
        return tokens, self.norm_pooled(pooled.to(dtype))
