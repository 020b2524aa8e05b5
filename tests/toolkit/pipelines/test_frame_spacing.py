"""Frames of a walk by arc length, with pictures that are a known function of the position."""

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from toolkit.pipelines.frame_spacing import Frames, arc_length_frames, difference, uniform_positions


def painter(level: Callable[[float], float], drawn: list[float] | None = None) -> Callable[..., Tensor]:
    """Draws pictures of one grey: `level` of the position, from -1 to 1."""

    def draw(positions: Sequence[float]) -> Tensor:
        if drawn is not None:
            drawn.extend(positions)
        return torch.tensor([level(one) for one in positions]).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4)

    return draw


def sigmoid(x: float) -> float:
    return math.tanh(x / 2)


def test_uniform_positions_have_every_stop() -> None:
    assert uniform_positions(5, 1) == torch.linspace(0, 1, 5).tolist()
    assert uniform_positions(5, 2) == [0, 0.5, 1, 1.5, 2]
    assert uniform_positions(4, 2) == [0, 1, 1.5, 2]
    assert uniform_positions(4, 2, closed=True) == [0, 0.5, 1, 1.5]
    for frames, legs, closed in itertools.product((7, 8, 24), (1, 3, 5), (False, True)):
        found = uniform_positions(frames, legs, closed)
        assert len(found) == frames and found == sorted(set(found))
        assert set(range(legs + (not closed))) <= set(found)


@pytest.mark.parametrize("steepness", [1, 30, 1000, 100_000])
def test_a_steep_change_is_spread_over_the_frames(steepness: int) -> None:
    """Uniform frames jump; by arc length the largest difference is at most twice the mean."""
    drawn: list[float] = []
    draw = painter(lambda u: sigmoid(steepness * (u - 0.37)), drawn)
    uniform = uniform_positions(12, 1)
    before = Frames(uniform, draw(uniform))
    drawn.clear()
    found = arc_length_frames(draw, 12, 1)
    assert len(found.positions) == len(found.pictures) == 12 and found.positions == sorted(found.positions)
    assert (found.positions[0], found.positions[-1]) == (0, 1)
    assert found.unevenness < 2 and (steepness == 1 or before.unevenness > 2)
    assert len(drawn) == len(set(drawn)) <= 7 * 12  # nothing twice, and not more than was promised
    assert torch.equal(found.pictures, draw(found.positions))  # each picture is at its position


@pytest.mark.parametrize("closed", [False, True])
def test_every_stop_is_a_frame(closed: bool) -> None:
    def level(u: float) -> float:
        return 0.9 * math.sin(2 * math.pi * u / 3) + 0.1 * sigmoid(300 * (u % 1 - 0.5))

    found = arc_length_frames(painter(level), 16, 3, closed)
    assert set(range(3 + (not closed))) <= set(found.positions)
    assert len(found.differences) == (16 if closed else 15)
    assert found.unevenness < 2


def test_a_jump_remains_and_the_rest_is_even() -> None:
    drawn: list[float] = []
    found = arc_length_frames(painter(lambda u: u / 2 if u < 0.3 else u / 2 + 0.5, drawn), 11, 1)
    jump, *others = sorted(found.differences, reverse=True)
    assert jump == pytest.approx(0.5, abs=1e-3)
    assert max(others) < 2 * sum(others) / len(others)
    assert len(drawn) < 7 * 11  # a jump is not searched for ever


def test_frames_that_are_all_the_same() -> None:
    drawn: list[float] = []
    found = arc_length_frames(painter(lambda u: 0.5, drawn), 5, 2)
    assert found.unevenness == 1 and found.positions == uniform_positions(5, 2) == drawn


def test_a_difference_is_a_distance_of_what_is_seen() -> None:
    black, white = -torch.ones(3, 2, 2), torch.ones(3, 2, 2)
    assert difference(black, white) == 2 and difference(black, 0 * white) == 1
    assert difference(white, 3 * white) == 0  # both are shown as white
    assert Frames([0, 1], torch.stack([white, black])).differences == [2]
    large = torch.stack([white, black]).repeat(1, 1, 100, 50)
    assert Frames([0, 1], large).differences == pytest.approx([2])
