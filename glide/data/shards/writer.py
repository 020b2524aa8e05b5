"""Write pictures and captions as WebDataset shards, which `--data` and the webdataset library read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from glide.data.shards.brace_expansion import webdataset
from glide.utils.atomic_write import atomic_path
from glide.utils.errors import InputError
from glide.utils.printable import few

Sample = tuple[str, Mapping[str, bytes]]
"""The common name of a sample's files, and their bytes by suffix: ("00012", {"png": ..., "txt": ...})."""


def write_shards(folder: str | Path, samples: Iterable[Sample], per_shard: int = 1000) -> list[Path]:
    """Write 00000.tar, 00001.tar, ... with up to `per_shard` samples each; returns their paths.

    Each is written atomically. The same samples give the same bytes. InputError, before the first sample is requested,
    if the folder already holds shards or webdataset is not installed; later, for sample names that no reader would
    separate from the suffix (empty, or with a dot), or if the folder cannot be written. Complete shards stay.
    """
    if per_shard < 1:
        raise InputError(f"got {per_shard} samples a shard, expected at least 1")
    folder = Path(folder)
    if there := sorted(path.name for path in folder.glob("*.tar")):
        raise InputError(
            f"{folder} already holds shards ({few(there, 1)}): give another folder, or remove them"
        )
    webdataset()
    paths: list[Path] = []
    remaining = iter(samples)
    while part := list(islice(remaining, per_shard)):
        paths.append(write_shard(folder / f"{len(paths):05d}.tar", part))
    return paths


def write_shard(path: Path, samples: Iterable[Sample], replace: bool = False) -> Path:
    """Write one shard atomically; returns its path. The same samples give the same bytes.

    replace: also over an existing file. InputError as `write_shards`.
    """
    with (
        atomic_path(path, replace) as temporary,
        open(temporary, "wb") as file,
        # a time would make each run's bytes differ, and a float would need its own header of 1 kB
        webdataset().writer.TarWriter(file, encoder=False, mtime=0) as tar,
    ):
        for key, files in samples:
            if not key or "." in key.rpartition("/")[2]:
                raise InputError(f"got a sample of the name {key!r}, expected one without a dot")
            tar.write({"__key__": key, **files})
    return path
