"""Augmentation: the movements against closed forms, their labels, and what a model makes of them."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from glide.networks.model import Model
from glide.networks.presets import preset
from glide.training.augmentation import SHIFT, augment, to_original
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.training.train_base import train_base
from glide.utils.errors import InputError
from support.models import randomised
from support.training_settings import settings

NONE = torch.zeros(1)


def place(height: int, width: int) -> Tensor:
    """A picture [1,3,H,W] that says of each pixel where it is, in pixels from the middle, over 100; of blue 0."""
    y, x = torch.meshgrid(
        torch.arange(height) - (height - 1) / 2, torch.arange(width) - (width - 1) / 2, indexing="ij"
    )
    return torch.stack([x, y, torch.zeros_like(x)])[None] / 100


def moved_by(image: Tensor, mode: str = "bicubic", **moves: float) -> Tensor:
    """The picture after one movement, by the matrices alone."""
    named = {name: torch.tensor([value]) for name, value in moves.items()}
    order = [named.get(name, NONE) for name in ("scale", "stretch", "angle", "right", "down")]
    theta = to_original(*order, image.shape[-2:])
    grid = torch.nn.functional.affine_grid(theta, list(image.shape), align_corners=False)
    return torch.nn.functional.grid_sample(image, grid, mode, padding_mode="border", align_corners=False)


def test_a_shift_moves_the_pixels_right_and_down() -> None:
    image = torch.rand(1, 3, 16, 24)
    moved = moved_by(image, right=3 / (SHIFT * 16), down=2 / (SHIFT * 16))
    torch.testing.assert_close(moved[..., 2:, 3:], image[..., :-2, :-3], atol=1e-5, rtol=0)


def test_a_quarter_turn_is_rot90() -> None:
    image = torch.rand(1, 3, 16, 16)
    moved = moved_by(image, angle=math.pi / 2)  # clockwise
    torch.testing.assert_close(moved, image.rot90(-1, (2, 3)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_places_are_those_of_the_affine_map(size: tuple[int, int]) -> None:
    """Bilinear interpolation repeats a linear picture exactly, so each moved pixel says where it came from."""
    image = place(*size)
    moves = {"scale": 0.7, "stretch": -0.4, "angle": 0.3, "right": 0.5, "down": -0.8}
    found = 100 * moved_by(image, "bilinear", **moves)[0, :2]  # [2,H,W], x and y in pixels from the middle

    wide, high = 2 ** (0.2 * (0.7 - 0.4)), 2 ** (0.2 * (0.7 + 0.4))
    turn = torch.tensor([[math.cos(0.3), -math.sin(0.3)], [math.sin(0.3), math.cos(0.3)]])
    forward = torch.diag(torch.tensor([wide, high])) @ turn
    shift = SHIFT * min(size) * torch.tensor([0.5, -0.8])
    to = 100 * image[0, :2].flatten(1)
    expected = (torch.linalg.inv(forward) @ (to - shift[:, None])).unflatten(1, size)
    inside = (expected[0].abs() < size[1] / 2 - 3) & (expected[1].abs() < size[0] / 2 - 3)
    assert inside.sum() > 200
    torch.testing.assert_close(found[:, inside], expected[:, inside], atol=1e-3, rtol=0)


def test_a_share_is_moved_and_the_rest_stays_as_it_is() -> None:
    image = torch.rand(400, 3, 8, 8) * 2 - 1
    moved, labels = augment(image, 0.1, RowRng(1, range(400)))
    still = ~labels.any(dim=1)
    assert torch.equal(moved[still], image[still])
    assert not torch.equal(moved[~still], image[~still]) and moved.abs().max() <= 1
    # of four movements with a share of 0.1 each, 0.9^4 have none; five standard deviations about it
    assert abs(still.float().mean().item() - 0.9**4) < 5 * math.sqrt(0.9**4 * (1 - 0.9**4) / 400)
    assert not augment(image, 0.0, RowRng(1, range(400)))[1].any()


def test_rows_do_not_depend_on_their_batch() -> None:
    image = torch.rand(8, 3, 8, 8)
    whole, labels = augment(image, 0.5, RowRng(3, range(8)))
    parts = [augment(image[rows.start : rows.stop], 0.5, RowRng(3, rows)) for rows in (range(3), range(3, 8))]
    assert torch.equal(labels, torch.cat([part[1] for part in parts]))
    torch.testing.assert_close(whole, torch.cat([part[0] for part in parts]), atol=1e-6, rtol=0)


def test_the_network_receives_the_movement_and_of_none_in_sampling() -> None:
    config = dataclasses.replace(preset("tiny"), text=None, augmentation=True)
    model = randomised(Model(config), 0)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([500, 500])
    labels = torch.tensor([[0.0] * 6, [1.0] + [0.0] * 5])
    with torch.no_grad():
        plain, moved = model(x, t, {}), model(x, t, {"augmentation": labels})
    torch.testing.assert_close(moved[0], plain[0])
    assert (moved[1] - plain[1]).abs().max() > 1e-4


def test_input_pictures_are_refused() -> None:
    config = dataclasses.replace(preset("tiny"), text=None, inpaint=True, augmentation=True)
    with pytest.raises(InputError, match="would not be moved along"):
        DiffusionObjective(augment=0.1, null_captions=0).check(Model(config))


def test_it_is_added_to_a_trained_model_and_goes_on(tmp_path: Path) -> None:
    train_base(settings(tmp_path / "plain", train={"steps": 2}))
    more = {"augment": 0.5, "validation_batches": 1}
    added = train_base(settings(tmp_path / "moved", init=str(tmp_path / "plain"), train={"steps": 2}, **more))
    assert added.config.augmentation and added.augmentation.weight.any()
    again = train_base(settings(tmp_path / "moved", resume=True, train={"steps": 3}, **more))
    assert again.config.augmentation
    assert not train_base(settings(tmp_path / "off", init=str(tmp_path / "moved"))).config.augmentation
