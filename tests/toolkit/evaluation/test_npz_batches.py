"""guided-diffusion's .npz files: written and read, mapped where they are not packed, damaged ones refused."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from glide.utils.errors import InputError
from toolkit.evaluation.frechet_distance import Gaussian
from toolkit.evaluation.npz_batches import (
    has_pictures,
    read_batch,
    read_statistics,
    write_batch,
    write_statistics,
)

PICTURES = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), dtype=np.uint8)


def test_batches_are_those_of_numpy(tmp_path: Path) -> None:
    ours, theirs, packed = (str(tmp_path / f"{name}.npz") for name in ("ours", "theirs", "packed"))
    write_batch(Path(ours), iter(PICTURES), 5, (6, 4), overwrite=False)
    np.savez(theirs, PICTURES, np.arange(5))
    np.savez_compressed(packed, PICTURES)
    with np.load(ours, allow_pickle=False) as arrays:
        assert np.array_equal(arrays["arr_0"], PICTURES) and arrays.files == ["arr_0"]
    for path in (ours, theirs, packed):
        found = read_batch(path)
        assert has_pictures(path) and np.array_equal(found, PICTURES)
        assert isinstance(found, np.memmap) == (path != packed)


def test_statistics_are_those_of_numpy(tmp_path: Path) -> None:
    path = tmp_path / "statistics.npz"
    one = Gaussian(np.arange(3.0), np.diag([1.0, 2.0, 3.0]))
    write_statistics(path, one, overwrite=False)
    found = read_statistics(str(path))
    assert np.array_equal(found.mean, one.mean) and np.array_equal(found.covariance, one.covariance)
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays.files) == ["mu", "sigma"]
    assert not has_pictures(str(path))
    with pytest.raises(InputError, match="without mu_s and sigma_s"):
        read_statistics(str(path), spatial=True)
    both = tmp_path / "both.npz"
    write_statistics(both, one, overwrite=False, spatial=Gaussian(np.ones(2), np.eye(2)))
    assert np.array_equal(read_statistics(str(both), spatial=True).mean, np.ones(2))
    assert np.array_equal(read_statistics(str(both)).mean, one.mean)
    with pytest.raises(InputError, match="exists already"):
        write_statistics(path, one, overwrite=False)


def test_other_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PICTURES.astype(np.float32), mu=np.zeros(3), sigma=np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"got arr_0 float32 \[5, 6, 4, 3\]"):
        read_batch(str(path))
    with pytest.raises(InputError, match=r"got mu \[3\] and sigma \[2, 2\]"):
        read_statistics(str(path))
    np.savez(path, mu=np.full(2, np.nan), sigma=np.zeros((2, 2)))
    with pytest.raises(InputError, match="not finite"):
        read_statistics(str(path))
    with pytest.raises(InputError, match="without arr_0"):
        read_batch(str(path))
    path.write_bytes(b"PK no zip file")
    with pytest.raises(InputError, match="cannot read"):
        read_batch(str(path))
    with pytest.raises(InputError, match="got a picture of 5x6 for a batch of 4x6"):
        write_batch(tmp_path / "y.npz", [np.zeros((6, 5, 3), np.uint8)], 1, (6, 4), overwrite=False)
    assert not (tmp_path / "y.npz").exists()


def test_no_object_is_unpickled(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return pickle.loads, ("never",)

    objects = np.empty(1, object)
    objects[0] = Runs()
    path = tmp_path / "objects.npz"
    np.savez(path, arr_0=objects, allow_pickle=True)
    with pytest.raises(InputError, match="damaged"):
        read_batch(str(path))


@pytest.mark.parametrize("cut", [30, 200, 300])
def test_a_cut_file_is_refused(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    np.savez(path, PICTURES)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError):
        read_batch(str(path))
