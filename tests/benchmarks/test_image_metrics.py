"""benchmarks/image_metrics.py, image_features.py and memorisation.py run at tiny size, and measure what they say."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("webdataset")

from image_features import ImageFeatures
from image_features import measure as measure_rate
from image_metrics import ImageMetrics, kinds, measure, scenes, table
from memorisation import Memorised
from memorisation import measure as measure_memorised


def test_the_sets_are_what_their_names_say() -> None:
    true, training = scenes("held_out", 1, 24, 32), scenes("train", 0, 24, 32)
    found = kinds(true, training, 0)
    assert len(found) == 7 and all(
        one.shape == true.shape and one.dtype == np.uint8 for one in found.values()
    )
    assert found["memorised"] is training and np.array_equal(found["true"], true)
    assert len(np.unique(found["8 pictures repeated"].reshape(24, -1), axis=0)) == 8
    noise = found["noised"].astype(float) - true
    assert 5 < noise.std() < 11

    def sharpness(pictures: np.ndarray) -> float:
        return float(np.abs(np.diff(pictures.astype(float), axis=1)).max(initial=0, axis=(1, 2, 3)).mean())

    assert sharpness(true) > sharpness(found["blurred by 1 pixel"]) > sharpness(found["blurred by 2 pixels"])


@pytest.mark.slow
def test_the_table_marks_what_is_seen(tmp_path: Path) -> None:
    args = ImageMetrics(pictures=40, resamples=20)
    text = table(measure(args, "classifier:shapes-shape", tmp_path))
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()[2:]}
    assert len(rows) == 7 and "**" not in rows["true"]
    assert "**100 (" in rows["memorised"] and rows["memorised"].count("**") == 2
    assert "**" in rows["8 pictures repeated"] and "**" in rows["another style: outlines"]


@pytest.mark.slow
def test_the_rate_is_measured(tmp_path: Path) -> None:
    args = ImageFeatures("classifier:shapes-shape", pictures=12, side=32, different=3, batch_size=4, rounds=2)
    found = measure_rate(args, tmp_path)
    assert found["clock"] > 0 and found["processor"] > 0 and found["again"] > 0
    with Image.open(io.BytesIO((tmp_path / "shards/00000.tar").read_bytes()[512:])) as picture:
        assert picture.size == (32, 32)


@pytest.mark.slow
def test_a_model_is_trained_and_compared(tmp_path: Path) -> None:
    args = Memorised(tmp_path, scenes=80, steps=1, pictures=8, features=("classifier:shapes-shape",))
    found = measure_memorised(args)["classifier:shapes-shape"]
    assert len(found) == 3 and not found["drawn, beside what was learned"]  # noise is no copy
    assert (tmp_path / "model/model.safetensors").is_file() and len(
        list((tmp_path / "drawn").glob("*.png"))
    ) == 8
    trained = Memorised(tmp_path / "again", str(tmp_path / "model"), 80, 1, 8, args.features)
    again = measure_memorised(trained)
    assert again["classifier:shapes-shape"] == found
