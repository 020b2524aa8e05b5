"""Where the frames of a walk lie: at uniform positions, or by arc length, so that neighbours differ by as much.

A picture does not change evenly along a walk between captions: for a while next to nothing happens, then a thing turns
into another one. A curve is walked evenly by its arc length, which is here the sum of the differences of neighbours.
So more frames are drawn where neighbours differ most, and of all that were drawn those are chosen that lie evenly.

Shape letters: N frames, M drawings, C channels, H W pixels. A position is a number from 0 to the number of legs; leg i
leads from stop i (a caption or a picture) to stop i + 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Draw = Callable[[Sequence[float]], Tensor]
"""The pictures [N,C,H,W], in [-1, 1], at N positions; each depends on its own position alone."""

MORE = 6
"""Drawings beside the uniform ones, at most, as a multiple of the frames."""
PER_ROUND = 3  # the frames are so many times the gaps that one round halves
EVEN_ENOUGH = 1.25  # largest gap against the mean difference of frames, below which no further round is drawn
THRESHOLDS = 24  # largest differences that are tried
CLOSEST = 2.0**-22  # of a leg: between closer drawings, a jump is a jump
MEASURED_SIDE = 64  # pixels; of larger pictures averages are compared


@dataclass(frozen=True, eq=False)
class Frames:
    """N pictures of a walk, with their positions in order."""

    positions: list[float]
    pictures: Tensor  # [N,C,H,W]
    closed: bool = False  # True where the last one is followed by the first

    @property
    def differences(self) -> list[float]:
        """The difference of each frame and the next, as of `difference`."""
        following = self.pictures.roll(-1, 0)
        pairs = zip(_measured(self.pictures), _measured(following), strict=True)
        found = [difference(one, other) for one, other in pairs]
        return found if self.closed else found[:-1]

    @property
    def unevenness(self) -> float:
        """The largest difference of neighbours against their mean, from 1; 1 where all frames are the same."""
        mean = float(np.mean(self.differences))
        return max(self.differences) / mean if mean > 0 else 1.0


def difference(a: Tensor, b: Tensor) -> float:
    """Root of the mean squared difference of two pictures [C,H,W], as they are seen: clipped to [-1, 1].

    It is a distance, so a walk's parts add up to no less than the way between their ends, and half of a fade is half
    as far; a mean square would be a quarter. A perceptual distance would need a network that knows such pictures.
    """
    return float((a.clamp(-1, 1) - b.clamp(-1, 1)).double().square().mean().sqrt())


def uniform_positions(frames: int, legs: int, closed: bool = False) -> list[float]:
    """N positions, every stop among them and those of a leg evenly spaced. closed: the last stop is the first.

    frames: at least the number of different stops.
    """
    steps = frames if closed else frames - 1
    assert steps >= legs >= 1
    stops = [steps * leg // legs for leg in range(legs + 1)]
    found = []
    for leg in range(legs):
        shares = torch.linspace(0, 1, stops[leg + 1] - stops[leg] + 1).tolist()
        found += [leg + share for share in shares[:-1]]
    return found if closed else [*found, float(legs)]


def arc_length_frames(
    draw: Draw, frames: int, legs: int, closed: bool = False, more: int = MORE, call_size: int = 1
) -> Frames:
    """N frames that lie evenly by arc length, every stop among them.

    Draws uniform positions, then halves the gaps between the drawings that differ most, round by round, with at most
    `more` * N further drawings. Of all drawings those N are chosen whose largest difference is the least against their
    mean. Where a picture jumps however close two drawings are, the jump remains between two frames. call_size: so many
    drawings of a round take as long as one.
    """
    positions = np.array(uniform_positions(frames, legs, closed))
    pictures = draw(positions.tolist()).cpu()
    left, most = more * frames, max(-(-frames // PER_ROUND), call_size)
    while left > 0:
        new = _halved(Frames(positions.tolist(), pictures, closed), frames, legs, min(most, left))
        if not new:
            break
        left -= len(new)
        pictures = torch.cat([pictures, draw(new).cpu()])
        positions = np.append(positions, new)
        order = np.argsort(positions)
        positions, pictures = positions[order], pictures[torch.from_numpy(order)]
    return _chosen(Frames(positions.tolist(), pictures, closed), frames, legs)


def _halved(drawn: Frames, frames: int, legs: int, most: int) -> list[float]:
    """The middles of at most so many of the widest gaps; none where all are narrow enough for so many frames."""
    ends = np.array([*drawn.positions, float(legs)] if drawn.closed else drawn.positions)
    gaps, widths = np.array(drawn.differences), np.diff(ends)  # [M-1], or [M] where it is closed
    steps = frames if drawn.closed else frames - 1
    wide = (gaps > EVEN_ENOUGH * gaps.sum() / steps) & (widths > CLOSEST)
    widest = [int(i) for i in np.argsort(-gaps, kind="stable") if wide[i]][:most]
    return sorted(float(ends[i] + widths[i] / 2) for i in widest)


def _chosen(drawn: Frames, frames: int, legs: int) -> Frames:
    """The N of M drawings, all stops among them, whose largest difference is the least against their mean.

    Of equal choices, to a tenth, the one with the least deviation of all differences.
    """
    seen = _measured(drawn.pictures).flatten(1)  # [M,D]
    place = np.array(drawn.positions)
    if drawn.closed:  # the walk ends where it began
        seen, place = torch.cat([seen, seen[:1]]), np.append(place, float(legs))
    distances = _distances(seen)  # [M,M]
    # a step from i to j leads forwards, and passes no stop
    passes = np.ceil(place)[None, :] - 1 > np.floor(place)[:, None]
    distances[passes | (place[:, None] >= place[None, :])] = -np.inf
    steps = frames if drawn.closed else frames - 1
    follows = np.eye(len(place), k=1, dtype=bool)  # a jump between these two cannot be avoided
    gaps = distances[follows]
    mean = gaps.sum() / steps
    best, least = list[int](), (np.inf, np.inf)
    thresholds = np.linspace(mean / 2, max(gaps.max(), 3 * mean), THRESHOLDS)
    for threshold in (*thresholds, np.inf):  # without one there is a path: the uniform positions are one
        path = _longest_path(np.where((distances <= threshold) | follows, distances, -np.inf), steps)
        if path is None:
            continue
        taken = distances[path[:-1], path[1:]] / max(mean, 1e-12)
        spread = (round(taken.max() / max(taken.mean(), 1e-12), 1), float(taken.std()))
        if spread < least:
            best, least = path, spread
    path = best[:frames]
    return Frames([drawn.positions[i] for i in path], drawn.pictures[path], drawn.closed)


def _longest_path(distances: NDArray[np.float64], steps: int) -> list[int] | None:
    """The longest path of so many steps from the first of M drawings to the last; None where there is none.

    distances: [M,M], -inf where no step leads. Dynamic programming over the steps and the drawing that they reach.
    """
    length = np.full(len(distances), -np.inf)
    length[0] = 0.0
    came_from = []
    for _ in range(steps):
        ways = length[:, None] + distances  # [M,M]
        came_from.append(ways.argmax(0))
        length = ways.max(0)
    if not np.isfinite(length[-1]):
        return None
    path = [len(distances) - 1]
    for step in reversed(came_from):
        path.append(int(step[path[-1]]))
    return path[::-1]


def _distances(rows: Tensor) -> NDArray[np.float64]:
    """Root mean squared difference of all pairs of rows [M,D], as [M,M]."""
    found = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").double()
    return (found / rows.shape[1] ** 0.5).numpy()


def _measured(pictures: Tensor) -> Tensor:
    """Pictures [N,C,H,W] as they are compared: what is seen of them, and not larger than it has to be."""
    pictures = pictures.float().clamp(-1, 1)
    side = max(pictures.shape[-2:])
    return pictures if side <= MEASURED_SIDE else F.adaptive_avg_pool2d(pictures, MEASURED_SIDE)
