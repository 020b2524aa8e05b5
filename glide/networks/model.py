"""The diffusion model: text and label encoders, input planes and the U-Net.

Shape letters: N batch, C channels, H W pixels, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.process import Process
from glide.networks.augmentation import augmentation_layer
from glide.networks.config import ModelConfig
from glide.networks.first_stage import stage_of
from glide.networks.frozen_text_encoder import FrozenText, PretrainedText
from glide.networks.input_planes import input_planes, plane_count
from glide.networks.layers import linear_by_rows
from glide.networks.picture_sizes import in_first_stage
from glide.networks.text_encoder import TextEncoder
from glide.networks.unet import UNet
from glide.utils.errors import InputError

if TYPE_CHECKING:
    from glide.networks.tokenizer import Tokenizer


class Model(nn.Module):
    """A diffusion model: `condition` once a picture, then the U-Net once a step."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.commit: str | None = None
        """Of the hub, where it was fetched from there."""
        emb_width = 4 * config.unet.channels
        self.text: TextEncoder | FrozenText | None = None
        if config.text is not None:
            c = config.text
            self.text = TextEncoder(
                c.vocab, c.context, c.width, c.layers, c.heads, c.padding, c.final_norm, pooled=c.pooled
            )
            self.text_vector = nn.Linear(c.width, emb_width)
        elif config.text_encoder is not None:
            self.text = FrozenText(config.text_encoder)
            if config.text_encoder.pooled != "none":
                self.text_vector = nn.Linear(config.text_encoder.encoder_width, emb_width)
        if config.num_classes:
            self.label = nn.Embedding(config.num_classes + config.null_class, emb_width)
        if config.augmentation:
            self.augmentation = augmentation_layer(emb_width)
        self.first_stage = stage_of(config.first_stage)
        """From pictures to what the U-Net draws, and back."""
        self.parts = input_planes(config)
        """The kinds of image-shaped inputs besides x_t."""
        for part in self.parts:
            for name, module in part.modules().items():
                self.add_module(name, module)
        self.unet = UNet(config.unet, plane_count(config), config.token_width)

    def use_encoder(self, encoder: PretrainedText) -> None:
        """Set the frozen text encoder, and the tokenizer with it. InputError if it is not the one of training."""
        config = self.config.text_encoder
        assert config is not None and isinstance(self.text, FrozenText)
        if encoder.width != config.encoder_width:
            raise InputError(
                f"got a text encoder {encoder.width} wide, expected {config.source} with {config.encoder_width}, "
                "which this model was trained with: give that one"
            )
        if encoder.fingerprint != config.fingerprint:
            at = f" at revision {config.revision}" if config.revision else ""
            raise InputError(
                f"got the text encoder {encoder.fingerprint}, expected {config.fingerprint} ({config.source}{at}), "
                "which this model was trained with: give that one"
            )
        self.text.encoder = encoder
        self.tokenizer = encoder.tokenizer(config.context)

    @cached_property
    def process(self) -> Process:
        return self.config.process.build()

    @property
    def device(self) -> torch.device:
        return self.unet.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the U-Net computes in."""
        return self.unet.stem.weight.dtype

    def condition(self, batch: Mapping[str, Tensor], size: tuple[int, int] | None = None) -> Conditioning:
        """Encode the conditioning: all that the network receives besides x_t and t, for a picture of `size` (the
        model's own by default).

        batch: the keys that this model takes: tokens [N,L] int64 with mask [N,L] bool, or the result of
        `FrozenText.encode` in place of both; y [N] int64;
        low_res [N,C,h,w] with low_res_level [N], 0 where it is not given; inpaint_image [N,C,H,W] with inpaint_mask
        [N,1,H,W], 1 where a pixel is known; estimate [N,C,H,W], its own of x0, where there is one.
        """
        return self.encode(batch).joined(self.condition_on_images(batch, size))

    def condition_on_images(
        self, inputs: Mapping[str, Tensor], size: tuple[int, int] | None = None
    ) -> Conditioning:
        """The image-shaped part of `condition`: planes, their noise level, the estimate."""
        size = size or in_first_stage(self.config)
        shown = Conditioning()
        for part in self.parts:
            shown = shown.joined(part.conditioning(inputs, size, self, self.dtype))
        return shown

    def encode(self, batch: Mapping[str, Tensor]) -> Conditioning:
        """The conditioning of captions and classes alone, without planes.

        batch may also hold keep_vector [N], 1 or 0: where it is 0 the caption reaches the network by its tokens alone;
        and, for a model with `augmentation`, labels of that name [N,LABELS]: how each training picture was moved.
        """
        vector = tokens = None
        if self.text is not None:
            tokens, pooled = self.text.read(batch)
            if pooled is not None:
                vector = linear_by_rows(self.text_vector, pooled, self.dtype)
                if "keep_vector" in batch:
                    vector = vector * batch["keep_vector"][:, None]
        if self.config.num_classes:
            label = self.label(batch["y"])
            vector = label if vector is None else vector + label
        if "augmentation" in batch:
            moved = linear_by_rows(self.augmentation, batch["augmentation"], self.dtype)
            vector = moved if vector is None else vector + moved
        return Conditioning(vector=vector, tokens=tokens)

    def nothing_known(self, images: int, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """Image-shaped inputs of `condition` for so many pictures of which nothing is known; {} for most models.

        size: (H, W), by default the model's own.
        """
        size = size or in_first_stage(self.config)
        inputs: dict[str, Tensor] = {}
        for part in self.parts:
            inputs |= part.unknown(images, size, self.device)
        return inputs

    def forward(self, x: Tensor, t: Tensor, batch: Mapping[str, Tensor], inner: bool = False) -> Tensor:
        """x [N,C,H,W] at training timesteps t [N] -> [N,out_channels,H,W]. inner: as of `UNet.forward`."""
        return self.unet(x, t, self.condition(batch, (x.shape[-2], x.shape[-1])), inner=inner)

    def caption_batch(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Captions -> tokens and mask on the model's device; "" is the null caption."""
        if self.tokenizer is None:
            raise InputError(
                "this model has no tokenizer, so it reads no captions: load it with its vocabulary (--vocab), a folder "
                "or hub id with vocab.json and merges.txt"
            )
        tokens, mask = self.tokenizer.encode(list(captions))
        return {"tokens": tokens.to(self.device), "mask": mask.to(self.device)}

    def label_batch(self, labels: Sequence[int]) -> dict[str, Tensor]:
        """Class numbers -> y on the model's device; `num_classes` is the null class where the model has one."""
        return {"y": torch.tensor(list(labels), dtype=torch.int64, device=self.device)}
