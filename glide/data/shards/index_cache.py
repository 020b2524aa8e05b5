"""Cached indices of shards: beside the shards if they were written there, else in $GLIDE_CACHE, else made by each run.

An index is valid only while its shard has the size and modification time for which it was made.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from glide.data.shards.tar_index import ShardIndex, scan_shard
from glide.utils.errors import InputError
from glide.utils.filesystem import file_stamp, is_remote, write_bytes
from glide.utils.json_files import read_json
from glide.utils.process_cache import process_cache

FORMAT = 4
INDEX_SUFFIX = ".index.json"  # appended to the shard's name
MAX_SCANS = 8  # shards that are read at once: most of the time is spent waiting


def shard_index(path: str) -> ShardIndex:
    """The index of a shard: the cached one, else a new one, which is cached if possible.

    InputError if the shard cannot be read or is no tar file.
    """
    size, stamp = file_stamp(path)
    cached = str(_cached(path, size, stamp))
    for kept in (path + INDEX_SUFFIX, cached):
        index = _load(kept, size, stamp)
        if index is not None:
            return index
    index = scan_shard(path)
    with suppress(InputError):  # without the cache the next run reads the headers again
        _save(cached, index, size, stamp)
    return index


def ensure_indices(paths: Sequence[str]) -> None:
    """Cache every shard's index; several processes that do so at once share the work."""
    order = list(paths)
    random.Random(f"{os.getpid()} {threading.get_ident()}").shuffle(order)
    with ThreadPoolExecutor(MAX_SCANS) as pool:
        for _ in pool.map(_ensure_index, order):
            pass


def _ensure_index(path: str) -> None:
    # its existence is enough: its name identifies the shard's state
    if not _cached(path, *file_stamp(path)).exists():
        shard_index(path)


def write_index_beside(path: str) -> None:
    """Write a shard's index beside it, for all its readers. InputError if that fails."""
    size, stamp = file_stamp(path)
    _save(path + INDEX_SUFFIX, shard_index(path), size, stamp)


def _cached(path: str, size: int, stamp: str) -> Path:
    whole = path if is_remote(path) else os.path.abspath(path)
    name = hashlib.sha256(f"{FORMAT} {whole} {size} {stamp}".encode("utf-8", "surrogateescape")).hexdigest()
    return process_cache() / "shards" / f"{name[:32]}.json"


def _save(kept: str, index: ShardIndex, size: int, stamp: str) -> None:
    values = {"format": FORMAT, "size": size, "stamp": stamp, "index": index.to_json()}
    write_bytes(kept, json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace"))


def _load(kept: str, size: int, stamp: str) -> ShardIndex | None:
    """A cached index; None if it is missing, damaged, or of another shard."""
    if not is_remote(kept) and not os.path.exists(kept):
        return None
    try:
        values = read_json(kept)
        if (values["format"], values["size"], values["stamp"]) != (FORMAT, size, stamp):
            return None
        return ShardIndex.from_json(values["index"], size)
    except (InputError, ValueError, TypeError, KeyError, AttributeError):
        return None
