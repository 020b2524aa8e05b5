"""Image-shaped inputs: what each kind holds, and that a new kind is one class."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glide.checkpoints.init_from import init_from
from glide.diffusion.conditioning import Conditioning
from glide.diffusion.loss_config import LossConfig
from glide.networks import input_planes as module
from glide.networks.conditioner import Conditioner
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.input_planes import Inputs, input_planes, plane_count
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng

TINY = dataclasses.replace(PRESETS["tiny"], text=None)


class Edges(module.InputPlanes):
    """Horizontal edges of the picture, as one more plane."""

    name = "edges"

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.scale == 7

    @property
    def channels(self) -> int:
        return 1

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        x0 = batch["image"]
        return {"edges": (x0 - x0.roll(1, 3)).mean(dim=1, keepdim=True)}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        assert given.start is not None
        return self.from_batch({"image": given.start[None].to(device)})

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        return Conditioning(planes=inputs["edges"])


def test_kinds_are_composed_by_the_configuration() -> None:
    unet = dataclasses.replace(TINY.unet, self_condition=True)
    config = dataclasses.replace(TINY, unet=unet, inpaint=True, low_res=True, low_res_noise=True)
    assert input_planes(TINY) == () and plane_count(TINY) == 0
    assert [(part.name, part.channels) for part in input_planes(config)] == [
        ("own estimate", 3),
        ("inpainting", 4),
        ("low resolution", 3),
        ("low-resolution noise level", 0),
    ]
    assert plane_count(config) == 7  # the U-Net counts the estimate itself
    model = Model(config)
    assert model.unet.stem.weight.shape[1] == (3 + 3 + 7) * config.unet.patch_size**2
    assert {"level_in.weight", "level_out.bias"} < set(model.state_dict())


def test_pixels_where_they_are_known_and_zeros_elsewhere() -> None:
    config = dataclasses.replace(TINY, inpaint=True, low_res=True)
    model = Model(config)
    image, mask = torch.rand(3, 16, 16), (torch.rand(1, 16, 16) > 0.5).float()
    low_res = torch.rand(3, 4, 4)
    pictures = [
        ImageRequest(0, given=KnownPixels(low_res, image=image, mask=mask)),
        ImageRequest(1, given=KnownPixels(low_res, image=image, mask=mask, visible=False)),
    ]
    planes = Conditioner(model).of(pictures).planes
    assert planes is not None and planes.shape == (2, 7, 16, 16)
    assert torch.equal(planes[0, :4], torch.cat([image * mask, mask])) and not planes[1, :4].any()
    assert torch.equal(planes[0, 4:], planes[1, 4:]) and planes[0, 4:].any()
    assert set(model.nothing_known(2)) == {"inpaint_image", "inpaint_mask"}  # an upsampler needs a picture


def test_a_new_kind_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KINDS", (*module.KINDS, Edges))
    plain, model = Model(TINY), Model(dataclasses.replace(TINY, scale=7))
    assert init_from(model, plain) == []
    x0, t = torch.rand(4, 3, 16, 16), torch.arange(4)
    losses = DiffusionObjective(LossConfig(prediction="x0"), null_captions=0.0)
    terms = [losses(one, {"image": x0}, t, RowRng(0, range(4)))["loss"] for one in (plain, model)]
    torch.testing.assert_close(*terms)  # it begins as the model without
    model.unet.stem.weight.data.normal_()
    pictures = [ImageRequest(i, given=KnownPixels(start=one)) for i, one in enumerate(x0)]
    cond = Conditioner(model).of(pictures)
    assert cond.planes is not None and cond.planes.shape == (4, 1, 16, 16) and cond.planes.any()
