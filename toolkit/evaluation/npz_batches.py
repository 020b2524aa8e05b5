"""guided-diffusion's .npz files: batches of pictures (arr_0) and statistics of features (mu, sigma; mu_s and
sigma_s for those with places).

Shape letters: N pictures, H W pixels, F features.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glide.utils.atomic_write import atomic_path
from glide.utils.errors import InputError, reason_of
from glide.utils.memory import check_file_fits
from toolkit.evaluation.frechet_distance import Gaussian

PICTURES = "arr_0"
SUFFIX = ".npz"
_LOCAL_HEADER = 30  # bytes before a member's name in a zip file


def is_npz(path: str) -> bool:
    """True for a name that ends in .npz."""
    return path.lower().endswith(SUFFIX)


def read_batch(path: str) -> NDArray[np.uint8]:
    """The pictures of a batch, uint8 [N,H,W,3]; they stay on the disk where the file is not packed.

    InputError for a file without pictures, of another shape or type, or one that is damaged; no object is unpickled.
    """
    array = _member(path, PICTURES)
    if array is None:
        raise InputError(
            f"got {path} without {PICTURES}, expected a batch of pictures: give one, or a folder"
        )
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not len(array):
        raise InputError(
            f"got {PICTURES} {array.dtype} {list(array.shape)} in {path}, expected uint8 [N,H,W,3]: write it again"
        )
    return array


def has_pictures(path: str) -> bool:
    """True for a file with a batch of pictures. InputError for one that cannot be read."""
    return PICTURES in _names(path)


def read_statistics(path: str, spatial: bool = False) -> Gaussian:
    """Mean [F] and covariance [F,F]. InputError for a file without them, or with others.

    spatial: those of sFID's features, mu_s and sigma_s.
    """
    names = ("mu_s", "sigma_s") if spatial else ("mu", "sigma")
    mean, covariance = (_member(path, name) for name in names)
    if mean is None or covariance is None:
        raise InputError(
            f"got {path} without {names[0]} and {names[1]}, expected statistics of features: give others, or the "
            "pictures themselves"
        )
    if (
        mean.ndim != 1
        or covariance.shape != (len(mean), len(mean))
        or "f" not in (mean.dtype.kind + covariance.dtype.kind)
    ):
        raise InputError(
            f"got {names[0]} {list(mean.shape)} and {names[1]} {list(covariance.shape)} in {path}, expected [F] and "
            "[F,F]: write them again"
        )
    found = Gaussian(np.array(mean, np.float64), np.array(covariance, np.float64))
    if not np.isfinite(found.mean).all() or not np.isfinite(found.covariance).all():
        raise InputError(f"got statistics in {path} that are not finite, expected numbers: write them again")
    return found


def write_statistics(path: Path, found: Gaussian, overwrite: bool, spatial: Gaussian | None = None) -> None:
    """Write mu and sigma, and those of sFID's features, float64.

    Errors as of `glide.utils.atomic_write.atomic_path`.
    """
    arrays = {"mu": found.mean, "sigma": found.covariance}
    if spatial is not None:
        arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
    with atomic_path(path, overwrite) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def write_batch(
    path: Path, pictures: Iterable[NDArray[np.uint8]], count: int, size: tuple[int, int], overwrite: bool
) -> None:
    """Write `count` pictures, uint8 [H,W,3], as arr_0 [N,H,W,3], one after the other, and not all in memory.

    size: (H, W). InputError for a picture of another size. Errors as of `glide.utils.atomic_write.atomic_path`.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, *size, 3)}
    with (
        atomic_path(path, overwrite) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        archive.open(f"{PICTURES}.npy", "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for picture in pictures:
            if picture.shape != (*size, 3):
                raise InputError(
                    f"got a picture of {picture.shape[1]}x{picture.shape[0]} for a batch of {size[1]}x{size[0]}, "
                    "expected one size: give --image-size"
                )
            file.write(np.ascontiguousarray(picture, np.uint8).tobytes())


def _names(path: str) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except Exception as error:  # zipfile raises almost anything on damaged files
        raise InputError(f"cannot read {path} ({reason_of(error)}): check that it is an .npz file") from error


def _member(path: str, name: str) -> NDArray[Any] | None:
    """An array of the file, mapped where it is not packed; None if it is missing. InputError for a damaged file."""
    if name not in _names(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo(f"{name}.npy")
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                    version, np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = read(file)
                start = file.tell()
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.hasobject or start + size != entry.file_size:
            raise ValueError(f"{name} is no plain array of its size")
        if entry.compress_type == zipfile.ZIP_STORED and size:
            with open(path, "rb") as raw:
                raw.seek(entry.header_offset)
                local = raw.read(_LOCAL_HEADER)
            names = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
            offset = entry.header_offset + _LOCAL_HEADER + names + start
            return np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
        check_file_fits(size, path, f"its {name}, which is packed")
        with np.load(path, allow_pickle=False) as arrays:
            found: NDArray[Any] = arrays[name]
            return found
    except InputError:
        raise
    except Exception as error:  # readers of damaged files raise almost anything
        raise InputError(f"{path} is damaged ({reason_of(error)}): write or fetch it again") from error
