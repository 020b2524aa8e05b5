"""Latents that were encoded ahead, in place of pictures (latent diffusion, 2112.10752).

The folder of --encode-ahead holds, for every 1024 pictures of the data (of one aspect bucket, where there are several),
`00000.npy`: float16 [n,V,c,h,w], V variants of each picture, and `00000.json`: the CRC-32 of their files, and the
pictures that are broken. `manifest.json` says from which data, by which autoencoder and with which crops they were
made. A shard is complete when its .json is there, so an encoding that was stopped goes on with the next one. Captions
and classes are not in it: they are read from the data.

Shape letters: N pictures, C channels, H W pixels, c latent channels, h w latents, V variants.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glide.data.datasets import Dataset
from glide.data.stored_dataset import StoredData
from glide.utils.atomic_write import atomic_path, write_text
from glide.utils.errors import InputError
from glide.utils.images import from_uint8
from glide.utils.json_files import read_table
from glide.utils.picture_size import recorded_size, size_text
from glide.utils.progress import progress

Encode = Callable[[Tensor], Tensor]
"""Pictures [N,C,H,W] in [-1, 1] -> latents [N,c,h,w]."""

PER_SHARD = 1024
CROPS = 8
"""Random crops that are kept of each picture."""
CHECKED = 20_000
"""Pictures whose files are compared with those that were encoded; of more, so many spread evenly."""
MANIFEST = "manifest.json"
FORMAT = 1


class EncodedAhead(StoredData):
    """A stored data set whose batches hold "latents", float16 [N,c,h,w], in place of "image".

    A center crop has one variant, a mirrored one its own: a latent turned over is not the latent of a picture turned
    over. Of random crops there are CROPS, each mirrored or not by chance; one of a picture's variants is drawn for its
    place in the epoch.
    """

    def __init__(self, data: StoredData, folder: Path, autoencoder: str) -> None:
        """folder: as `encode_ahead` fills it. autoencoder: its fingerprint. InputError as `check_folder`."""
        super().__init__(
            data.source,
            data.sizes[0],
            data.seed,
            data.random_crop,
            data.flip,
            data.max_broken,
            data.channels,
            buckets=data.buckets,
        )
        check_folder(data, folder, autoencoder)
        self.arrays: list[NDArray[np.float16]] = []
        self.places: dict[int, tuple[int, int]] = {}
        """The shard and the row of each picture."""
        for shard, pictures in enumerate(parts_of(data)):
            array_path, record_path = files_of(folder, shard)
            record = _record(record_path)
            self.arrays.append(_array(array_path))
            self.places |= {index: (shard, row) for row, index in enumerate(pictures)}
            for row, reason in record["broken"].items():
                index = pictures[int(row)]
                self._broken[index] = (data.source.name(index), str(reason))

    def batch(self, step: int, size: int, rows: range | None = None) -> dict[str, object]:
        """As `StoredData.batch`, with latents."""
        wanted = range(size) if rows is None else rows
        bucket, positions = self._positions(step, size)
        found, annotations = zip(*(self._sample(bucket, positions[row]) for row in wanted), strict=True)
        batch: dict[str, object] = {"latents": torch.from_numpy(np.stack([latents for (latents,) in found]))}
        if self.class_names:
            return {**batch, "y": torch.tensor(annotations, dtype=torch.int64)}
        return {**batch, "caption": list(annotations)} if self.source.captioned else batch

    def _picture(self, index: int, key: Sequence[int]) -> tuple[NDArray[Any]]:
        """The latents [c,h,w] of the variant for the place of the epoch, alone."""
        shard, row = self.places[index]
        variants = self.arrays[shard][row]
        draw = np.random.default_rng(key).random()
        return (variants[int(draw * len(variants))],)


def encode_ahead(data: Dataset, folder: Path, autoencoder: str, encode: Encode, mine: range) -> None:
    """Fill a folder with the latents of a data set, as far as it is not there.

    autoencoder: fingerprint of `encode`'s. mine: the shards of this process among all (`shards_of`). InputError for
    data that is not stored, and for a folder of other data, another autoencoder or other crops.
    """
    stored = check_stored(data)
    check_manifest(stored, folder, autoencoder)
    todo = [shard for shard in mine if not files_of(folder, shard)[1].exists()]
    parts = parts_of(stored)
    total = sum(len(parts[shard]) for shard in todo)
    with progress(total=total, desc="encoding", unit="picture") as bar:
        for shard in todo:
            _encode_shard(stored, folder, shard, parts[shard], encode, bar.update)


def _encode_shard(
    data: StoredData,
    folder: Path,
    shard: int,
    pictures: Sequence[int],
    encode: Encode,
    on_picture: Callable[[], object],
) -> None:
    """Write one shard; a picture that cannot be read is noted in its record."""
    latents: list[NDArray[np.float16] | None] = []
    broken: dict[str, str] = {}
    sums: list[int] = []
    for row, index in enumerate(pictures):
        try:
            crc, found = zlib.crc32(data.source.read(index)), encode(_variants(data, index))
            latents.append(found.to("cpu", torch.float16).numpy())
            sums.append(crc)
        except InputError as error:
            broken[str(row)] = str(error)
            latents.append(None)
            sums.append(0)
        on_picture()
    _write(folder, shard, latents, {"crc32": sums, "broken": broken})


def parts_of(data: StoredData) -> list[Sequence[int]]:
    """The pictures of each shard of a data set's latents: of one bucket, so of one size."""
    members: list[Sequence[int]] = [range(len(data))]
    if data.buckets is not None:
        members = [np.flatnonzero(data.buckets.of == bucket).tolist() for bucket in range(len(data.sizes))]
    return [part[i : i + PER_SHARD] for part in members for i in range(0, len(part), PER_SHARD)]


def shards_of(data: StoredData) -> int:
    """Number of shards of a data set's latents."""
    return len(parts_of(data))


def files_of(folder: Path, shard: int) -> tuple[Path, Path]:
    """The files of a shard: latents, and their record."""
    return folder / f"{shard:05d}.npy", folder / f"{shard:05d}.json"


def check_stored(data: Dataset) -> StoredData:
    """The data set, where its pictures are files. InputError for others."""
    if not isinstance(data, StoredData):
        raise InputError(
            "got --encode-ahead for data that is drawn on demand and never seen twice, expected a folder or shards: "
            "leave it out"
        )
    return data


def check_manifest(data: StoredData, folder: Path, autoencoder: str) -> None:
    """Write the manifest of a new folder. InputError where there is one of other data, autoencoder or crops."""
    wanted = _manifest(data, autoencoder)
    path = folder / MANIFEST
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise InputError(
                f"got --encode-ahead {folder}, which holds other files, expected a new or an empty folder: give one"
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted, indent=2) + "\n")
        return
    found = read_table(path)
    for name, value in ({"buckets": None} | wanted).items():
        if found.get(name) != value:
            raise InputError(
                f"{folder} was encoded with {name.replace('_', ' ')} {found.get(name)}, expected {value}: give "
                "another folder to --encode-ahead"
            )


def check_folder(data: StoredData, folder: Path, autoencoder: str) -> None:
    """InputError where latents are missing, or pictures, autoencoder or crops have changed since they were made."""
    check_manifest(data, folder, autoencoder)
    sums: dict[int, int] = {}
    for shard, pictures in enumerate(parts_of(data)):
        path = files_of(folder, shard)[1]
        if not path.exists():
            raise InputError(f"{path} is missing, expected latents of all pictures: encode them again")
        record = _record(path)
        if len(record["crc32"]) != len(pictures):
            raise InputError(
                f"{path} is of another number of pictures: encode them again into another folder"
            )
        kept = (row for row in range(len(record["crc32"])) if str(row) not in record["broken"])
        sums |= {pictures[row]: record["crc32"][row] for row in kept}
    stride = -(-len(sums) // CHECKED) if sums else 1
    for index in sorted(sums)[::stride]:
        if zlib.crc32(data.source.read(index)) != sums[index]:
            raise InputError(
                f"{data.source.name(index)} has changed since its latents in {folder} were encoded, expected the same "
                "pictures: give another folder to --encode-ahead"
            )


def _manifest(data: StoredData, autoencoder: str) -> dict[str, Any]:
    names = hashlib.sha256()
    for index in range(len(data)):
        names.update(data.source.name(index).encode("utf-8", "surrogatepass") + b"\n")
    crops = "random" if data.random_crop else "center"
    texts = [size_text(size) for size in data.sizes]
    return {
        "format": FORMAT,
        "autoencoder": autoencoder,
        "image_size": recorded_size(data.sizes[0]),
        **({"buckets": texts} if len(texts) > 1 else {}),
        "channels": data.channels,
        "crop": crops,
        "flip": data.flip,
        "seed": data.seed if data.random_crop else None,
        "pictures": len(data),
        "names": names.hexdigest()[:16],
    }


def _variants(data: StoredData, index: int) -> Tensor:
    """The variants of a picture, [V,C,H,W] in [-1, 1]. InputError for a broken one."""
    if not data.random_crop:
        pixels = data.decoded(index)
        found = [pixels, pixels[:, ::-1]] if data.flip else [pixels]
    else:
        found = [data.augmented(index, (data.seed, index, crop)) for crop in range(CROPS)]
    shaped = [one.reshape(*data.size_of(index), data.channels) for one in found]
    return from_uint8(np.stack(shaped))


def _write(
    folder: Path, shard: int, latents: list[NDArray[np.float16] | None], record: Mapping[str, Any]
) -> None:
    """Write a shard, its record last."""
    array_path, record_path = files_of(folder, shard)
    like = next((one for one in latents if one is not None), None)
    rows = [np.zeros_like(like) if one is None else one for one in latents if like is not None]
    with atomic_path(array_path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.stack(rows) if rows else np.zeros((0,), np.float16), allow_pickle=False)
    write_text(record_path, json.dumps(record) + "\n")


def _record(path: Path) -> dict[str, Any]:
    """A shard's record. InputError for a damaged one."""
    found = read_table(path)
    sums, broken = found.get("crc32"), found.get("broken")
    if not isinstance(sums, list) or not isinstance(broken, dict):
        raise InputError(f"{path} is damaged: remove it, and its latents are encoded again")
    return {"crc32": sums, "broken": broken}


def _array(path: Path) -> NDArray[np.float16]:
    """A shard's latents [n,V,c,h,w], mapped from the file. InputError for a missing or damaged one."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} is missing or damaged: remove its .json, and it is encoded again"
        ) from error
