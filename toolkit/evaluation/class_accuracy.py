"""Class accuracy: share of the pictures whose class a classifier sees (classification accuracy score's simple form).

Shape letters: N pictures, K classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glide.utils.errors import InputError


def class_accuracy(probabilities: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """1 for each picture whose most probable class is its own, else 0: [N].

    probabilities [N,K], labels [N] from 0. InputError for a label that the classifier does not have.
    """
    labels = np.asarray(labels)
    if len(labels) and not 0 <= labels.min() <= labels.max() < probabilities.shape[1]:
        raise InputError(
            f"got the classes {labels.min()} to {labels.max()} for a classifier of {probabilities.shape[1]}, expected "
            "its own: give a classifier of these pictures"
        )
    return (probabilities.argmax(1) == labels).astype(np.float64)
