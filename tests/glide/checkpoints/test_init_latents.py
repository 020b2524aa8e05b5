"""A model of latents that begins with a model of pixels."""

import dataclasses

import pytest
import torch

from glide.checkpoints.init_from import init_from
from glide.checkpoints.init_latents import linear_map, with_latents
from glide.networks.config import FirstStageConfig, ModelConfig, ProcessConfig, TextConfig
from glide.networks.first_stage import LatentStage
from glide.networks.model import Model
from glide.utils.errors import InputError
from support.models import randomised, tiny_unet


class Halved:
    """Latents that are a linear function of a picture: its halves, the channels mixed and moved."""

    factor, latent_channels, picture_channels = 2, 3, 3
    mix = torch.tensor([[2.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.3, 0.0, 1.5]])
    moved = torch.tensor([0.1, -0.2, 0.3])

    def encode(self, x):
        small = torch.nn.functional.avg_pool2d(x, 2)
        return torch.einsum("dc,nchw->ndhw", self.mix, small) + self.moved[:, None, None]

    def decode(self, z):
        small = torch.einsum("dc,nchw->ndhw", self.mix.inverse(), z - self.moved[:, None, None])
        return torch.nn.functional.interpolate(small, scale_factor=2)


def stage():
    return LatentStage(Halved(), FirstStageConfig("", "", 2, 3))


def pixels_model(**changes):
    unet = dataclasses.replace(tiny_unet(6), image_size=8, patch_size=2, coordinates=1)
    config = ModelConfig(unet, process=ProcessConfig(prediction="x0", steps=100), **changes)
    return randomised(Model(config), 0)


def latents_model(source, **changes):
    config = dataclasses.replace(source.config, first_stage=FirstStageConfig("", "", 2, 3), **changes)
    model = Model(config)
    model.first_stage = stage()
    return model


def test_the_best_affine_map_is_found():
    inputs = torch.randn(50, 4)
    matrix, offset = torch.randn(3, 4), torch.randn(3)
    found, moved = linear_map(inputs, inputs @ matrix.T + offset)
    torch.testing.assert_close(found, matrix, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(moved, offset, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("inpaint", [False, True])
def test_where_latents_are_linear_it_draws_the_same(inpaint):
    """Away from the border, whose zeros stand for grey pixels and not for grey latents."""
    source = pixels_model(inpaint=inpaint)
    model = latents_model(source)
    changed = with_latents(source, model, torch.rand(8, 3, 16, 16) * 2 - 1)
    assert init_from(model, changed) == []
    picture = torch.rand(2, 3, 16, 16) * 2 - 1
    small = torch.nn.functional.avg_pool2d(picture, 2)
    t = torch.tensor([3, 50])
    ours, theirs = {}, {}
    if inpaint:
        mask = (torch.rand(2, 1, 8, 8) > 0.5).float()
        ours = {"inpaint_image": model.first_stage.encode(picture), "inpaint_mask": mask}
        theirs = {"inpaint_image": small, "inpaint_mask": mask}
    stem, other = [], []
    model.unet.stem.register_forward_hook(lambda layer, given, out: stem.append(out))
    source.unet.stem.register_forward_hook(lambda layer, given, out: other.append(out))
    model(model.first_stage.encode(picture), t, ours)
    source(small, t, theirs)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(stem[0][inner], other[0][inner], rtol=1e-3, atol=1e-3)
    # the head writes the latents of what the other wrote
    h = torch.randn(1, 32, 4, 4)
    drawn = source.unet.output(h)[:, :3]
    expected = torch.einsum("dc,nchw->ndhw", Halved.mix, drawn) + Halved.moved[:, None, None]
    torch.testing.assert_close(model.unet.output(h)[:, :3], expected, rtol=1e-3, atol=1e-3)


def test_planes_of_inpainting_can_be_left_out():
    source = pixels_model(inpaint=True)
    model = latents_model(source, inpaint=False)
    changed = with_latents(source, model, torch.rand(8, 3, 16, 16))
    assert init_from(model, changed) == [] and not changed.config.inpaint


def test_other_inputs_are_refused():
    source = pixels_model()
    unet = dataclasses.replace(source.config.unet, self_condition=True)
    own = Model(dataclasses.replace(source.config, unet=unet))
    with pytest.raises(InputError, match="--init with a model of pixels that is shown its own estimate"):
        with_latents(own, latents_model(source), torch.rand(2, 3, 16, 16))


def test_fewer_text_layers_are_taken_evenly():
    def model(layers):
        text = TextConfig(vocab=20, context=4, width=16, layers=layers, heads=2)
        return randomised(Model(ModelConfig(tiny_unet(6), text)), layers)

    source, ours = model(5), model(3)
    init_from(ours, source)
    for new, old in ((0, 0), (1, 2), (2, 4)):
        for name, value in ours.text.blocks[new].state_dict().items():
            assert torch.equal(value, source.text.blocks[old].state_dict()[name])
