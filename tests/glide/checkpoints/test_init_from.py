"""A model begun with another's weights draws what the other did, where that can be exact."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.init_from import init_from, stem_without_mask
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.utils.errors import InputError
from support.models import randomised

TINY = dataclasses.replace(PRESETS["tiny"], text=None)


def changed(**unet: object) -> ModelConfig:
    return dataclasses.replace(TINY, unet=dataclasses.replace(TINY.unet, **unet))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def source() -> Model:
    return randomised(Model(TINY), seed=0)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_larger_patch_sees_and_draws_the_old_pixels_enlarged(source: Model, x: Tensor) -> None:
    grown = Model(changed(image_size=32, patch_size=4)).eval()
    assert init_from(grown, source) == []
    t = torch.tensor([10, 800])
    enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.interpolate(source(x, t, {}), scale_factor=2, mode="nearest")
    torch.testing.assert_close(grown(enlarged, t, {}), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_new_planes_and_a_learned_variance_begin_without_effect(source: Model, x: Tensor) -> None:
    grown = Model(dataclasses.replace(changed(out_channels=6), inpaint=True)).eval()
    assert init_from(grown, source) == []
    t = torch.tensor([10, 800])
    batch = {"inpaint_image": torch.randn(2, 3, 16, 16), "inpaint_mask": torch.ones(2, 1, 16, 16)}
    output = grown(x, t, batch)
    torch.testing.assert_close(output[:, :3], source(x, t, {}), rtol=1e-5, atol=1e-5)
    assert output[:, 3:].abs().max() == 0


@torch.no_grad()
def test_coordinates_begin_without_effect_and_are_carried_over(source: Model, x: Tensor) -> None:
    config = changed(coordinates=2)
    placed = Model(config).eval()
    assert all(".place." in name for name in init_from(placed, source))
    t = torch.tensor([10, 800])
    torch.testing.assert_close(placed(x, t, {}), source(x, t, {}), rtol=1e-5, atol=1e-5)
    learned = randomised(Model(config), seed=4)
    grown = Model(
        dataclasses.replace(changed(coordinates=2, image_size=32, patch_size=4), inpaint=True)
    ).eval()
    assert init_from(grown, learned) == []
    enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
    batch = {"inpaint_image": torch.randn(2, 3, 32, 32), "inpaint_mask": torch.ones(2, 1, 32, 32)}
    expected = F.interpolate(learned(x, t, {}), scale_factor=2, mode="nearest")
    torch.testing.assert_close(grown(enlarged, t, batch), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="2 octaves of coordinates and this one 0"):
        init_from(Model(TINY), learned)


@torch.no_grad()
def test_an_upsampler_extended_for_inpainting_starts_unchanged(x: Tensor) -> None:
    """Its new planes stand before those of the low-resolution picture, and a larger patch has more of each."""
    plain = randomised(Model(dataclasses.replace(TINY, low_res=True)), seed=2)
    t, low_res = torch.tensor([10, 800]), torch.randn(2, 3, 4, 4)
    known = {"inpaint_image": torch.randn(2, 3, 16, 16), "inpaint_mask": torch.ones(2, 1, 16, 16)}
    both = Model(dataclasses.replace(TINY, low_res=True, inpaint=True)).eval()
    assert init_from(both, plain) == []
    expected = plain(x, t, {"low_res": low_res})
    torch.testing.assert_close(both(x, t, {"low_res": low_res, **known}), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, plain(x, t, {"low_res": low_res + 1}), atol=1e-3)


@torch.no_grad()
def test_a_model_that_does_not_inpaint_begins_as_one_that_is_shown_nothing(x: Tensor) -> None:
    t = torch.tensor([10, 800])
    nothing = {"inpaint_image": torch.zeros(2, 3, 16, 16), "inpaint_mask": torch.zeros(2, 1, 16, 16)}
    for more in ({}, {"low_res": True}):
        plain = dataclasses.replace(changed(coordinates=2), **more)
        source = randomised(Model(dataclasses.replace(plain, inpaint=True)), seed=6).eval()
        begun = Model(plain).eval()
        assert init_from(begun, source) == []
        shown = {"low_res": torch.randn(2, 3, 4, 4)} if more else {}
        expected = source(x, t, {**shown, **nothing})
        torch.testing.assert_close(begun(x, t, shown), expected, rtol=1e-5, atol=1e-5)


def test_the_stem_without_the_mask_is_that_of_a_model_which_never_saw_one() -> None:
    for unet in ({}, {"coordinates": 2, "patch_size": 4, "image_size": 32}):
        plain = changed(**unet)
        source = randomised(Model(plain), seed=3)
        inpainting = Model(dataclasses.replace(plain, inpaint=True))
        init_from(inpainting, source)
        assert inpainting.unet.stem.weight.shape != source.unet.stem.weight.shape
        for model in (source, inpainting):
            torch.testing.assert_close(stem_without_mask(model), source.unet.stem.weight, rtol=0, atol=0)


def test_other_differences_are_refused_by_name(source: Model) -> None:
    with pytest.raises(InputError, match=r"--init: unet\.\S+ is \[.*\] there and \[.*\] here"):
        init_from(Model(changed(channels=64)), source)
    with pytest.raises(InputError, match=r"1 input channels more than this one \(x_t\)"):
        init_from(source, Model(changed(in_channels=4, out_channels=4)))


def test_weights_missing_in_the_source_are_named(source: Model) -> None:
    fresh = init_from(Model(dataclasses.replace(TINY, num_classes=3)), source)
    assert fresh == ["label.weight"]


def test_an_outer_level_is_put_around_the_weights_of_the_others(source: Model) -> None:
    grown = Model(changed(image_size=16, channel_mult=(1, 1, 2), attention=(4,), patch_size=1))
    fresh = set(init_from(grown, source))
    old, new = source.state_dict(), grown.state_dict()
    names = {
        "down.0.": "down.2.",
        "down.1.": "down.3.",
        "down.2.": "down.4.",
    }  # a block and a change of resolution
    carried = set()
    for name, value in old.items():
        if name.startswith(("unet.stem.", "unet.head.", "unet.norm.")):
            assert name in fresh
            continue
        start = next((start for start in names if name.startswith(f"unet.{start}")), "")
        name = name.replace(start, names.get(start, ""), 1) if start else name
        assert torch.equal(new[name], value), name
        carried.add(name)
    assert carried | fresh == set(new) and not carried & fresh
    assert {name.split(".")[2] for name in fresh if name.startswith("unet.up.")} == {"3", "4", "5"}
