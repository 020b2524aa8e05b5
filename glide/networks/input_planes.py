"""Image-shaped inputs of a model besides x_t: one class a kind, composed by the model's configuration.

A kind says which field of the configuration switches it on, how many input channels it adds, and what they hold in
training, in sampling and where nothing is known. `Model`, `Conditioner` and the training objective go through
`input_planes(config)` and know no kind by name. To add one, write its class, list it in KINDS, and give `ModelConfig`
the field. Pictures that a model is conditioned on have kinds of their own (`glide.networks.picture_conditions`).

Shape letters: N batch, C channels, H W pixels, h w pixels of a low-resolution picture, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig
from glide.networks.guidance_strength import GuidanceStrength
from glide.networks.image_embedding import ImageEmbedding
from glide.networks.image_request import KnownPixels
from glide.networks.input_kind import InputPlanes, Inputs
from glide.networks.layers import linear_by_rows, timestep_embedding, zero_init
from glide.networks.picture_conditions import PictureCondition, conditions_named
from glide.utils.errors import InputError

SELF_CONDITIONED = 0.5
"""Share of examples that are shown an estimate in training (2208.04202, section 3.2)."""


class SelfCondition(InputPlanes):
    """The network's own last estimate of x0 (2208.04202, section 3.2); zeros where there is none.

    input: estimate [N,C,H,W] in [-1, 1].
    """

    name = "own estimate"
    by_sampler = True

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.unet.self_condition

    @property
    def channels(self) -> int:
        return self.config.unet.in_channels

    def from_estimate(
        self, uniform: Callable[[], Tensor], estimate: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        shown = uniform() < SELF_CONDITIONED
        x0 = estimate()
        return {"estimate": x0 * shown.to(x0)[:, None, None, None]}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        return Conditioning(estimate=inputs.get("estimate"))


class Inpainting(InputPlanes):
    """The known pixels and their mask (GLIDE, 2112.10741, section 2.4); zeros where nothing is known.

    inputs: inpaint_image [N,C,H,W] in [-1, 1], inpaint_mask [N,1,H,W], 1 where a pixel is known.
    """

    name = "inpainting"

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.inpaint

    @property
    def channels(self) -> int:
        return self.config.unet.in_channels + 1

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: inpaint_mask as above (`glide.data.masks`); inpaint_image where it is not the image itself."""
        image = batch["inpaint_image"] if "inpaint_image" in batch else batch["image"]
        return {"inpaint_image": image, "inpaint_mask": batch["inpaint_mask"]}

    def unknown(self, images: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        nothing = torch.zeros(images, 1, *size, device=device)
        channels = self.config.unet.in_channels
        return {"inpaint_image": nothing.expand(-1, channels, -1, -1), "inpaint_mask": nothing}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        if given.image is None or given.mask is None or not given.visible:
            return self.unknown(1, size, device)
        return {
            "inpaint_image": given.image[None].to(device),
            "inpaint_mask": given.mask[None].to(device),
        }

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        mask = inputs["inpaint_mask"]
        return Conditioning(planes=torch.cat([inputs["inpaint_image"] * mask, mask], dim=1))


class LowRes(InputPlanes):
    """A low-resolution picture, enlarged bilinearly to the size of x_t (ADM, 2105.05233, section 3).

    input: low_res [N,C,h,w] in [-1, 1].
    """

    name = "low resolution"

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.low_res

    @property
    def channels(self) -> int:
        return self.config.unet.in_channels

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: low_res as above (`upsampler.crops`)."""
        return {"low_res": batch["low_res"]}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        if given.low_res is None:
            raise InputError(
                "got an upsampler, which enlarges pictures, and no picture, expected a model that draws: give a "
                "base model, or a picture to enlarge"
            )
        if given.noise and not self.config.low_res_noise:
            raise InputError(
                f"got noise {given.noise:g} for a model that does not receive the noise of what it enlarges, "
                "expected 0: leave it out, or give an upsampler that was trained with noise"
            )
        return {"low_res": given.low_res[None].to(device)}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        enlarged = F.interpolate(inputs["low_res"], size, mode="bilinear", align_corners=False)
        return Conditioning(planes=enlarged)


class LowResLevel(InputPlanes):
    """The noise level of the low-resolution picture, embedded like a timestep (cascaded diffusion, 2106.15282).

    input: low_res_level [N], the noise's standard deviation from 0 (none) to 1 (nothing else), see
    `upsampler.low_res`; 0 where it is not given.
    """

    name = "low-resolution noise level"

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.low_res_noise

    @property
    def channels(self) -> int:
        return 0

    def modules(self) -> dict[str, nn.Module]:
        """Two layers that end in zeros: an upsampler that was trained without noise begins as it was."""
        features = self.config.unet.channels
        width = 4 * features
        return {"level_in": nn.Linear(features, width), "level_out": zero_init(nn.Linear(width, width))}

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: low_res_level as above (`upsampler.crops`)."""
        return {"low_res_level": batch["low_res_level"]}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        return {"low_res_level": torch.tensor([given.noise], device=device)}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        """Of inputs with the level, or with the low-resolution picture alone: level [N,E]."""
        level = inputs.get("low_res_level")
        if level is None:
            level = inputs["low_res"].new_zeros(len(inputs["low_res"]))
        first, second = (cast(nn.Linear, model.get_submodule(name)) for name in ("level_in", "level_out"))
        features = timestep_embedding(1000.0 * level, self.config.unet.channels)
        hidden = linear_by_rows(first, features, dtype)
        return Conditioning(level=linear_by_rows(second, F.silu(hidden), dtype))


@dataclass(frozen=True)
class ConditionPlanes(InputPlanes):
    """A picture that the model is conditioned on (`glide.networks.picture_conditions`); zeros where it is left out.

    input: planes [N,P,H,W] under the condition's key. A model of latents receives each block of their pixels as
    further planes (space to depth), so that nothing of a condition is lost.
    """

    kind: PictureCondition

    name = "condition"
    droppable = True

    @property
    def label(self) -> str:
        return f"condition {self.kind.name}"

    @property
    def factor(self) -> int:
        """Pixels of the condition in a row, for each number that the network receives."""
        return self.config.first_stage.factor if self.config.first_stage else 1

    @property
    def channels(self) -> int:
        return self.kind.planes * self.factor**2

    def planes_of(self, stored: Tensor) -> Tensor:
        """Bytes [N,c,H,W] as planes [N,P,h,w]."""
        return F.pixel_unshuffle(self.kind.to_planes(stored), self.factor)

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: bytes [N,c,H,W] under the condition's key."""
        return {self.kind.key: self.planes_of(batch[self.kind.key])}

    def without(self, inputs: Inputs, dropped: Tensor) -> dict[str, Tensor]:
        planes = inputs[self.kind.key]
        return {self.kind.key: planes * ~dropped.to(planes.device)[:, None, None, None]}

    def unknown(self, images: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        return {self.kind.key: torch.zeros(images, self.channels, *size, device=device)}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        stored = given.conditions.get(self.kind.key)
        if stored is None and not self.config.null_condition:
            raise InputError(
                f"got no condition for a model that needs one ({self.kind.name}), expected a picture: give --condition"
            )
        if stored is None:
            return self.unknown(1, size, device)
        expected = (self.kind.stored, *(length * self.factor for length in size))
        if tuple(stored.shape) != expected:
            raise InputError(
                f"got a condition {self.kind.name} of shape {list(stored.shape)}, expected {list(expected)}: read it "
                "by toolkit.pipelines.conditions"
            )
        return {self.kind.key: self.planes_of(stored[None].to(device))}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        return Conditioning(planes=inputs[self.kind.key])


KINDS: tuple[type[InputPlanes], ...] = (
    SelfCondition,
    Inpainting,
    LowRes,
    LowResLevel,
    ImageEmbedding,
    GuidanceStrength,
)
"""In the order of the stem's input channels, which follow those of x_t; those of pictures come after them."""


def input_planes(config: ModelConfig) -> tuple[InputPlanes, ...]:
    """The kinds that a configuration switches on."""
    pictures = (ConditionPlanes(config, kind) for kind in conditions_named(config.conditions))
    return (*(kind(config) for kind in KINDS if kind.used(config)), *pictures)


def plane_count(config: ModelConfig) -> int:
    """Input channels of the stem besides those that the U-Net's own configuration counts."""
    return sum(part.channels for part in input_planes(config) if not part.by_sampler)
