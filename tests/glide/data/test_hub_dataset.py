"""Data sets of the library `datasets` become captioned or labelled pictures."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from glide.data.datasets import open_data, open_source
from glide.utils.errors import InputError

PIXELS = (np.arange(4 * 4 * 4) * 5 % 256).astype(np.uint8).reshape(4, 4, 4)  # [N,H,W]


def png(pixels: np.ndarray) -> dict[str, object]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def saved(tmp_path):
    """A function that saves columns, beside one of the pictures, as a data set; returns its --data argument."""
    library = pytest.importorskip("datasets", reason="the library datasets is not installed")

    def save(kinds=None, split=None, **columns) -> str:
        features = library.Features({"image": library.Image(), **(kinds or {})})
        table = library.Dataset.from_dict({"image": [png(p) for p in PIXELS], **columns}, features=features)
        (table if split is None else library.DatasetDict({split: table})).save_to_disk(
            str(tmp_path / "saved")
        )
        return f"hf:{tmp_path / 'saved'}"

    return save


@pytest.mark.slow
def test_labels_have_the_names_of_the_column(saved):
    library = pytest.importorskip("datasets")
    spec = saved({"label": library.ClassLabel(names=["shoe", "bag"])}, "test", label=[1, 0, -1, 1])
    source = open_source(f"{spec}:test")
    assert source.class_names == ("shoe", "bag") and [source.label(i) for i in range(3)] == [1, 0, 1]
    assert source.problems == {"test/000002": "has no class"}  # -1
    batch = open_data(f"{spec}:test", 4, channels=1, max_broken=0.5).batch(0, 3)
    rows = {PIXELS[i].tobytes(): y for i, y in ((0, 1), (1, 0), (3, 1))}
    assert [rows[p.numpy().tobytes()] for p in batch["image"][:, 0].contiguous()] == batch["y"].tolist()
    with pytest.raises(InputError, match="did not give the split train"):
        open_source(spec)


@pytest.mark.slow
def test_captions_come_before_labels_and_may_be_several(saved):
    library = pytest.importorskip("datasets")
    kinds = {"text": library.List(library.Value("string")), "label": library.ClassLabel(names=["a"])}
    spec = saved(kinds, text=[["a shoe", "one  shoe"], ["a bag"], [], ["x"]], label=[0] * 4)
    source = open_source(spec)
    assert source.captioned and source.every_caption(0) == ["a shoe", "one shoe"]
    assert source.caption(1) == "a bag" and source.name(1) == "train/000001"
    with pytest.raises(InputError, match="is empty"):
        source.caption(2)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(source.read(3)))), PIXELS[3])


@pytest.mark.slow
def test_pictures_alone_and_other_columns(saved):
    library = pytest.importorskip("datasets")
    spec = saved({"score": library.Value("float32")}, score=[0.0, 1.0, 2.0, 3.0])
    assert len(open_source(spec, unconditional=True)) == 4
    with pytest.raises(InputError, match="has neither captions nor classes in its columns image, score"):
        open_source(spec)


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"pip install 'glide-toolkit\[datasets\]'"):
        open_source("hf:fashion_mnist")
    with pytest.raises(InputError, match="expected a data set's name"):
        open_source("hf:")
