"""Figures of pictures beside those of other packages, on the same random features and pictures.

pip install prdc torchmetrics clean-fid torchvision
python benchmarks/metric_references.py

A package that is not installed is left out.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.evaluation.clean_resize import clean_resize
from toolkit.evaluation.density_coverage import density_coverage
from toolkit.evaluation.frechet_distance import frechet_of_features
from toolkit.evaluation.kernel_distance import kernel_distance
from toolkit.evaluation.precision_recall import precision_recall

SIZES = ((37, 50), (256, 256), (64, 64), (500, 333))


def sets() -> tuple[NDArray, NDArray]:
    """Features [300,32] and [250,32]."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((300, 32)) + 0.4, rng.standard_normal((250, 32)) * rng.uniform(0.5, 1.5, 32)


def with_prdc() -> str:
    from prdc import compute_prdc

    x, y = sets()
    with contextlib.redirect_stdout(io.StringIO()):
        three, five = (compute_prdc(real_features=y, fake_features=x, nearest_k=k) for k in (3, 5))
    theirs = (three["precision"], three["recall"], five["density"], five["coverage"])
    return _compared((*precision_recall(x, y), *density_coverage(x, y)), theirs)


def with_torchmetrics() -> str:
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    x, y = sets()
    gaussians = [
        part
        for one in (x, y)
        for part in (torch.tensor(one.mean(0)), torch.tensor(np.cov(one, rowvar=False)))
    ]
    theirs = float(_compute_fid(*gaussians)), float(poly_mmd(torch.tensor(x[: len(y)]), torch.tensor(y)))
    return _compared((frechet_of_features(x, y), kernel_distance(x[: len(y)], y)), theirs)


def with_clean_fid() -> str:
    from cleanfid.resize import build_resizer

    rng, resize = np.random.default_rng(0), build_resizer("clean")
    equal = 0
    for size in SIZES:
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        equal += np.array_equal(resize(pixels).transpose(2, 0, 1), clean_resize(pixels, 299))
    return f"{equal} of {len(SIZES)} pictures equal bit for bit"


def _compared(ours: tuple[float, ...], theirs: tuple[float, ...]) -> str:
    differences = [abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True)]
    return f"{', '.join(f'{one:.6g}' for one in ours)}; largest relative difference {max(differences):.1e}"


CASES: dict[str, Callable[[], str]] = {
    "precision, recall, density, coverage (prdc)": with_prdc,
    "Fréchet distance, kernel distance (torchmetrics)": with_torchmetrics,
    "resized pictures (clean-fid)": with_clean_fid,
}


def main() -> None:
    for name, case in CASES.items():
        try:
            print(f"{name}: {case()}")
        except ImportError as error:
            print(f"{name}: left out ({error})")


if __name__ == "__main__":
    main()
