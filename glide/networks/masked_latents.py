"""Input planes of a latent diffusion model that was trained to inpaint: the mask and the masked picture's latents.

Shape letters: N batch, C channels of a picture, H W pixels, h w latents.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.image_request import KnownPixels
from glide.networks.input_kind import InputPlanes, Inputs


class MaskedLatents(InputPlanes):
    """The mask, 1 where a latent is to be painted, and the latents of the picture with its unknown pixels grey.

    In the order of Stable Diffusion's inpainting models. Where nothing is known, the picture is grey all over.

    inputs: inpaint_image [N,C,H,W] in [-1, 1], inpaint_mask [N,1,H,W], 1 where a pixel is known.
    """

    name = "inpainting"

    @property
    def channels(self) -> int:
        return self.config.unet.in_channels + 1

    def unknown(self, images: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        stage = self.config.first_stage
        assert stage is not None
        area = (size[0] * stage.factor, size[1] * stage.factor)
        nothing = torch.zeros(images, 1, *area, device=device)
        return {"inpaint_image": nothing.expand(-1, stage.channels, -1, -1), "inpaint_mask": nothing}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        if given.shown is None:
            return self.unknown(1, size, device)
        image, mask = given.shown
        return {"inpaint_image": image[None].to(device), "inpaint_mask": mask[None].to(device)}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        image, mask = inputs["inpaint_image"], inputs["inpaint_mask"]
        latents = model.first_stage.encode(image * mask)  # type: ignore[operator, union-attr]
        return Conditioning(planes=torch.cat([F.interpolate(1.0 - mask, size), latents], dim=1))
