"""Precision, recall, density and coverage: loops over all pictures, and sets of which they are known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glide.utils.errors import InputError
from toolkit.evaluation import nearest_neighbors
from toolkit.evaluation.density_coverage import densities_and_covered, density_coverage
from toolkit.evaluation.nearest_neighbors import nearest, radii
from toolkit.evaluation.precision_recall import on_manifold, precision_recall, realism


def features(count: int, seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, 6)) + shift


def apart(p: NDArray, q: NDArray) -> float:
    return float(np.sqrt(((p - q) ** 2).sum()))


def radius(x: NDArray, i: int, k: int) -> float:
    return sorted(apart(x[i], other) for j, other in enumerate(x) if j != i)[k - 1]


def test_precision_and_recall_are_their_definition() -> None:
    generated, real = features(40, 0, 0.8), features(50, 1)

    def share(of: NDArray, manifold: NDArray) -> float:
        balls = [radius(manifold, i, 3) for i in range(len(manifold))]
        return float(
            np.mean([any(apart(x, y) <= r for y, r in zip(manifold, balls, strict=True)) for x in of])
        )

    exact = share(generated, real), share(real, generated)
    assert precision_recall(generated, real) == pytest.approx(exact, rel=1e-12)
    assert 0 < exact[0] < 1 and 0 < exact[1] < 1
    assert precision_recall(generated[::-1], np.roll(real, 7, 0)) == pytest.approx(exact, rel=1e-12)


def test_density_and_coverage_are_their_definition() -> None:
    generated, real = features(40, 2, 0.8), features(50, 3)
    balls = [radius(real, i, 5) for i in range(50)]
    held = [[apart(y, x) < r for x, r in zip(real, balls, strict=True)] for y in generated]
    exact = float(np.sum(held) / (5 * 40)), float(np.any(held, axis=0).mean())
    assert density_coverage(generated, real) == pytest.approx(exact, rel=1e-12)
    assert 0 < exact[0] < 1 and 0 < exact[1] < 1


def test_realism_is_its_definition() -> None:
    generated, real = features(15, 4, 0.5), features(21, 5)
    balls = [radius(real, i, 3) for i in range(21)]
    kept = [(y, r) for y, r in zip(real, balls, strict=True) if r <= np.median(balls)]
    exact = [max(r / apart(x, y) for y, r in kept) for x in generated]
    assert np.allclose(realism(generated, real), exact, rtol=1e-6)
    copies = realism(real, real)
    assert copies.max() == pytest.approx(1e6) and np.isfinite(copies).all()


def test_copies_lie_on_the_manifold_and_far_sets_do_not() -> None:
    real = features(30, 6)
    assert precision_recall(real, real) == (1.0, 1.0)
    assert density_coverage(real, real)[1] == 1.0
    assert precision_recall(real + 100, real) == (0.0, 0.0)
    assert density_coverage(real + 100, real) == (0.0, 0.0)


def test_repeated_pictures_lose_recall_and_coverage_alone() -> None:
    real = features(200, 7)
    repeated = np.repeat(real[:8], 25, axis=0)
    precision, recall = precision_recall(repeated, real)
    density, coverage = density_coverage(repeated, real)
    assert precision == 1.0 and recall < 0.1
    assert density > 0.3 and coverage < 0.4


def test_the_k_th_neighbour_itself_is_inside() -> None:
    """A copied picture lies exactly on the edge of balls, whatever the rounding."""
    real = features(60, 8, 1000.0)
    held, _ = densities_and_covered(real, real, 5)
    inside = [sum(apart(x, y) <= radius(real, i, 5) * (1 + 1e-9) for i, y in enumerate(real)) for x in real]
    assert (held * 5).round().astype(int).tolist() == inside


def test_nearest_are_exact_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(20, 9, 500.0), features(30, 10, 500.0)
    y[7] = x[3]
    monkeypatch.setattr(nearest_neighbors, "BLOCK", 100)  # three rows
    distances, rows = nearest(x, y, 4)
    for i in range(20):
        order = sorted(range(30), key=lambda j: apart(x[i], y[j]))[:4]
        assert rows[i].tolist() == order
        assert np.allclose(distances[i], [apart(x[i], y[j]) for j in order], rtol=1e-12)
    assert distances[3, 0] == 0.0 and rows[3, 0] == 7
    assert nearest(x, y[:2], 4)[0].shape == (20, 2)
    assert np.allclose(np.sqrt(radii(y, 2)), [radius(y, i, 2) for i in range(30)], rtol=1e-6)


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(InputError, match="got a set of 3 pictures for 3 nearest neighbours"):
        on_manifold(features(9, 0), features(3, 1))
