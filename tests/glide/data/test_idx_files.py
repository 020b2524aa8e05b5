"""IDX files become labelled pictures as their bytes say, and faulty ones are named errors."""

import gzip
import hashlib
import pickle
import struct

import numpy as np
import pytest

from glide.data import idx_files
from glide.data.datasets import open_data, open_source
from glide.data.idx_files import IdxPictures, read_idx
from glide.utils.errors import InputError
from toolkit.evaluation.picture_sets import open_pictures

PIXELS = (np.arange(5 * 4 * 3) * 7 % 256).astype(np.uint8).reshape(5, 4, 3)  # [N,H,W]
LABELS = np.array([2, 0, 1, 0, 2], np.uint8)


def idx(array: np.ndarray) -> bytes:
    """An IDX file, by its definition."""
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write(folder, part="train", images=PIXELS, labels=LABELS, sign="-", compressed=True):
    for kind, array in (("images", images), ("labels", labels)):
        name, data = f"{part}-{kind}{sign}idx{array.ndim}-ubyte", idx(array)
        (folder / (name + ".gz" * compressed)).write_bytes(gzip.compress(data) if compressed else data)


@pytest.mark.parametrize(("sign", "compressed"), [("-", True), ("-", False), (".", True), (".", False)])
def test_pictures_and_labels_are_those_of_the_files(tmp_path, sign, compressed):
    write(tmp_path, sign=sign, compressed=compressed)
    source = open_source(f"idx:{tmp_path}")
    assert len(source) == 5 and source.class_names == ("0", "1", "2") and not source.captioned
    data = open_data(f"idx:{tmp_path}", 3, channels=1)
    batch = data.batch(0, 5)
    squares = {PIXELS[i, 0:3].tobytes(): label for i, label in enumerate(LABELS)} | {
        PIXELS[i, 1:4].tobytes(): label for i, label in enumerate(LABELS)
    }  # the middle square of 4 rows by 3 may be either
    found = [squares[picture.numpy().tobytes()] for picture in batch["image"][:, 0].contiguous()]
    assert found == batch["y"].tolist()
    assert sorted(found) == [0, 0, 1, 2, 2]


def test_parts_and_class_names(tmp_path):
    write(tmp_path)
    write(tmp_path, "t10k", images=PIXELS[:2], labels=LABELS[:2])
    (tmp_path / "classnames.txt").write_text("shirt\nshoe\nbag\n")
    train, test = open_source(f"idx:{tmp_path}"), open_source(f"idx:{tmp_path}:test")
    assert train.class_names == test.class_names == ("shirt", "shoe", "bag")
    assert (len(train), len(test)) == (5, 2)
    assert train.name(4) == "train/000004" and test.name(0) == "test/000000"
    assert [test.label(i) for i in range(2)] == [2, 0]
    alone = open_source(f"idx:{tmp_path}", unconditional=True)
    assert alone.class_names == () and alone.read(3) == train.read(3)


def test_labels_of_fashion_mnist_have_its_names(tmp_path, monkeypatch):
    write(tmp_path)
    names = ("a", "b", "c")
    monkeypatch.setitem(idx_files.KNOWN_LABELS, hashlib.sha256(LABELS.tobytes()).hexdigest(), names)
    assert open_source(f"idx:{tmp_path}").class_names == names
    assert len(idx_files.FASHION) == 10 and idx_files.FASHION[0] == "T-shirt/top"


def test_a_part_keeps_its_labels_and_can_be_pickled(tmp_path):
    write(tmp_path)
    whole = IdxPictures(f"idx:{tmp_path}")
    part = whole.only(lambda name: name.endswith(("1", "4")))
    assert len(part) == 2 and len(whole) == 5
    assert [part.label(i) for i in range(2)] == [0, 2] and part.read(1) == whole.read(4)
    again = pickle.loads(pickle.dumps(part))
    assert again.name(1) == "train/000004" and again.read(1) == part.read(1)


def test_evaluations_read_them_with_their_classes(tmp_path):
    write(tmp_path)
    held = open_pictures(f"idx:{tmp_path}")
    assert [held.label(i) for i in range(5)] == LABELS.tolist()
    assert np.array_equal(held[2].pixels()[..., 0], PIXELS[2])
    parts = [open_pictures(f"idx:{tmp_path}", split=split, share=0.5) for split in ("train", "held_out")]
    assert sum(map(len, parts)) == 5 and min(map(len, parts)) > 0


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("images", lambda data: data[:-3], "holds only 57 bytes of numbers, expected 60"),
        ("images", lambda data: data + b"1", "holds more bytes of numbers, expected 60"),
        ("images", lambda data: b"\0\0\x0d\3" + data[4:], "begins with 00000d03, expected 00000803"),
        ("images", lambda data: b"", "begins with nothing, expected 00000803"),
        ("images", lambda data: data[:9], "begins with 00000803, expected 00000803"),
        ("labels", lambda data: idx(LABELS[:4]), "got 4 labels in .* for the 5 pictures"),
        ("images", lambda data: idx(PIXELS[:0]), "holds no pictures"),
        ("labels", lambda data: idx(PIXELS), "begins with 00000803, expected 00000801"),
    ],
)
def test_damaged_files_are_refused_in_one_sentence(tmp_path, name, change, message):
    write(tmp_path, compressed=False)
    path = next(tmp_path.glob(f"train-{name}*"))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=message) as caught:
        open_source(f"idx:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_damaged_compression_is_refused(tmp_path):
    path = tmp_path / "x-idx3-ubyte.gz"
    whole = gzip.compress(idx(PIXELS))
    for data, message in [
        (whole[:-12], "is cut off"),
        (b"plain", "is damaged"),
        (whole[:-8] + b"0" * 8, "is damaged"),
    ]:
        path.write_bytes(data)
        with pytest.raises(InputError, match=message):
            read_idx(str(path), 3)


def test_a_header_that_promises_more_than_memory_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x-idx3-ubyte"
    path.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**32 - 1, 2**20, 2**20))
    with pytest.raises(InputError, match="memory"):
        read_idx(str(path), 3)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match="there is no train-images-idx3-ubyte"):
        open_source(f"idx:{tmp_path}")
    with pytest.raises(InputError, match="expected the folder of the IDX files"):
        open_source("idx:")
    write(tmp_path)
    (tmp_path / "classnames.txt").write_text("one\ntwo\n")
    with pytest.raises(InputError, match="has 2 different names, expected one for each of the 3 classes"):
        open_source(f"idx:{tmp_path}")
    (tmp_path / "classnames.txt").unlink()
    with pytest.raises(InputError, match="whose pictures are no files"):
        open_data(f"idx:{tmp_path}", 4, conditions=["image:1=maps"])
