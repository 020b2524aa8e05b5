"""The embedding of a picture as an input of a model: for variations of pictures, and for priors.

Shape letters: N batch, W embedding width, E width of the time embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig
from glide.networks.image_request import KnownPixels
from glide.networks.input_kind import InputPlanes, Inputs
from glide.networks.layers import linear_by_rows, zero_init
from glide.utils.errors import InputError


class ImageEmbedding(InputPlanes):
    """The embedding of a picture by a frozen image encoder (DALL-E 2, 2204.06125, section 2.1); zeros where it is left
    out.

    input: image_embedding [N,W], of which the direction counts.
    """

    name = "image embedding"
    droppable = True

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.image_encoder is not None

    @property
    def channels(self) -> int:
        return 0

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        assert self.config.image_encoder is not None
        return self.config.image_encoder.width

    def modules(self) -> dict[str, nn.Module]:
        """Two layers that end in zeros: a model that was trained without embeddings begins as it was."""
        width = 4 * self.config.unet.channels
        return {
            "embedding_in": nn.Linear(self.width, width),
            "embedding_out": zero_init(nn.Linear(width, width)),
        }

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: image_embedding as above."""
        return {"image_embedding": batch["image_embedding"]}

    def without(self, inputs: Inputs, dropped: Tensor) -> dict[str, Tensor]:
        embedding = inputs["image_embedding"]
        return {"image_embedding": embedding * ~dropped.to(embedding.device)[:, None]}

    def unknown(self, images: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        return {"image_embedding": torch.zeros(images, self.width, device=device)}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        if given.embedding is None and not self.config.null_condition:
            raise InputError(
                "got no picture for a model that is conditioned on the embedding of one, expected it: give "
                "--like-image or --prior"
            )
        if given.embedding is None:
            return self.unknown(1, size, device)
        if given.embedding.shape != (self.width,):
            raise InputError(
                f"got an embedding of shape {list(given.embedding.shape)}, expected [{self.width}], as "
                f"{self.config.image_encoder.name if self.config.image_encoder else ''} makes them: give another"
            )
        return {"image_embedding": given.embedding[None].to(device)}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        """The level [N,E], which is added to the time embedding."""
        first, second = (
            cast(nn.Linear, model.get_submodule(name)) for name in ("embedding_in", "embedding_out")
        )
        # numbers of mean square 1, whatever the encoder's norm
        direction = F.normalize(inputs["image_embedding"].float(), dim=1) * self.width**0.5
        hidden = linear_by_rows(first, direction, dtype)
        return Conditioning(level=linear_by_rows(second, F.silu(hidden), dtype))
