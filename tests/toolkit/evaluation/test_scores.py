"""Inception score, class accuracy, CLIP score and sliced Wasserstein distance: definitions and closed forms."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glide.utils.errors import InputError
from toolkit.evaluation.class_accuracy import class_accuracy
from toolkit.evaluation.clip_score import clip_scores
from toolkit.evaluation.inception_score import inception_score, inception_score_estimate
from toolkit.evaluation.sample_size import too_small
from toolkit.evaluation.sliced_wasserstein import directions, sliced_wasserstein, sliced_wasserstein_estimate


def probabilities(count: int, classes: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), count)


def test_the_inception_score_is_its_definition() -> None:
    p = probabilities(30, 5)
    mean = p.mean(0)
    exact = np.exp(np.mean([sum(q * np.log(q / m) for q, m in zip(row, mean, strict=True)) for row in p]))
    assert inception_score(p) == pytest.approx(exact, rel=1e-10)
    found = inception_score_estimate(p, 100)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high


def test_the_inception_score_goes_from_one_to_the_number_of_classes() -> None:
    assert inception_score(np.eye(7)[[0, 1, 2, 3, 4, 5, 6]]) == pytest.approx(7)
    assert inception_score(np.full((9, 7), 1 / 7)) == pytest.approx(1)
    assert inception_score(np.eye(7)[[3] * 9]) == pytest.approx(1)


def test_class_accuracy_counts_the_most_probable_class() -> None:
    p = np.array([[0.2, 0.8], [0.9, 0.1], [0.6, 0.4]])
    assert class_accuracy(p, np.array([1, 1, 0])).tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="got the classes 0 to 2 for a classifier of 2"):
        class_accuracy(p, np.array([0, 1, 2]))


def test_the_clip_score_is_the_cosine() -> None:
    images = np.array([[3.0, 0.0], [1.0, 1.0], [-1.0, 0.0]])
    captions = np.array([[0.5, 0.0], [2.0, 0.0], [1.0, 0.0]])
    assert np.allclose(clip_scores(images, captions), [100, 100 / np.sqrt(2), 0])


def test_a_shift_has_the_closed_form() -> None:
    """Each projection is moved by the projected shift."""
    x, shift = np.random.default_rng(0).standard_normal((50, 8)), np.arange(8.0)
    exact = np.sqrt(((directions(8) @ shift) ** 2).mean())
    assert sliced_wasserstein(x, x + shift) == pytest.approx(exact, rel=1e-9)
    assert exact == pytest.approx(np.linalg.norm(shift) / np.sqrt(8), rel=0.1)
    assert sliced_wasserstein(x, np.roll(x, 9, 0)) == pytest.approx(0, abs=1e-12)


def test_sets_of_different_sizes_are_compared_by_quantiles() -> None:
    """As if each picture of either set were there so often that the sizes are equal."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((4, 3)) + 1
    exact = sliced_wasserstein(np.repeat(x, 2, 0), np.repeat(y, 3, 0))
    assert sliced_wasserstein(x, y) == pytest.approx(exact, rel=1e-9)
    found = sliced_wasserstein_estimate(x, y, 50)
    assert found.value == sliced_wasserstein(x, y) and found.low is not None and found.low < found.value


def test_small_samples_are_named_with_their_numbers() -> None:
    assert too_small(20_000, 20_000, 1280) == []
    singular, rough = too_small(100, 5000, 1280)
    assert "100 pictures with 1280 features has singular covariances" in singular and "100 pictures" in rough
    (biased,) = too_small(5000, 2000, 1280)
    assert "2000 pictures with 1280 features" in biased and "12800" in biased
    assert "7 held-out pictures" in too_small(20_000, 20_000, 4, 7)[0]
