"""Published models by name: fetched once, converted once to a model folder in the cache, then read from there.

folder = published_folder(MODELS["glide"], DIFFUSION)      # its config.json, model.safetensors, tokenizer.json
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from tokenizers import pre_tokenizers

from glide.checkpoints import cache
from glide.checkpoints.cache import megabytes
from glide.checkpoints.download import download, look_up
from glide.checkpoints.model_folder import write_folder
from glide.checkpoints.openai.convert import load
from glide.checkpoints.published import KINDS, MODELS, Kind, PublishedFile, PublishedModel
from glide.networks.tokenizer import CLIP_END, CLIP_START
from glide.utils.errors import CannotWrite, InputError
from glide.utils.memory import available_memory, check_file_fits
from glide.utils.printable import say

OFFLINE = "HF_HUB_OFFLINE"
"""The environment variable of the hub's library by which nothing is asked of the network."""
MERGES_OF_CLIP = 49152 - 256 - 2  # its vocabulary has room for so many besides bytes and marks
MAX_VOCABULARY = 2**26  # bytes, unpacked


@dataclass(frozen=True)
class PublishedKind:
    """A kind of published models, and its conversion."""

    kind: Kind
    convert: Callable[[PublishedModel, Sequence[Path], str | None, Path, dict[str, Any]], None]
    """(model, its files of weights, folder of its vocabulary, folder to write, record of its origin)."""


def published_folder(model: PublishedModel, kind: PublishedKind) -> Path:
    """The folder of a published model in the cache; what is not there is fetched and converted first.

    InputError for a model of another kind, and where it cannot be fetched, kept or converted.
    """
    check_kind(model, kind.kind)
    folder = cache.model_in_cache(model.name)
    if cache.is_converted(folder):
        return folder
    with cache.locked(model.name):
        if not cache.is_converted(folder):  # another process may have been first
            _make(model, kind, folder)
    return folder


def fetch_together(models: Sequence[PublishedModel], kind: PublishedKind) -> None:
    """Fetch and convert what is not in the cache of several models, after one line that says how large it all is.

    InputError as `published_folder`; a lack of disk is said before the first download.
    """
    new = [model for model in models if not cache.is_converted(cache.model_in_cache(model.name))]
    if len(new) > 1:
        cache.check_writable()
        missing = dict.fromkeys(file for model in new for file in model.files if not _place(file).is_file())
        names = " and ".join(model.name for model in new)
        size = sum(_lengths(names, list(missing)).values()) - _begun(missing)
        cache.check_disk(size + sum(model.float32_bytes for model in new), names)
        say(f"{names} are fetched once, {megabytes(size)} in all")
    for model in new:
        published_folder(model, kind)


def check_kind(model: PublishedModel, kind: Kind) -> None:
    """InputError for a published model of another kind than `kind`, before anything is fetched."""
    if model.kind != kind:
        of_kind = ", ".join(name for name, one in MODELS.items() if one.kind == kind)
        raise InputError(
            f"got {model.name}, a published {KINDS[model.kind]}, expected a {KINDS[kind]}: give one of {of_kind}"
        )


def _make(model: PublishedModel, kind: PublishedKind, folder: Path) -> None:
    """Fetch what is missing, and convert it."""
    check_file_fits(model.float32_bytes, model.name, "its weights")
    cache.check_writable()
    fetched = _fetch(model)
    for file in model.files:
        if file not in fetched:
            _check_given(file)
    record = {
        "published": model.name,
        "licence": model.licence,
        "files": [_origin(file, fetched.get(file)) for file in model.files],
    }
    for stale in folder.parent.glob(f".{model.name}.*.tmp"):  # of a conversion that was killed
        shutil.rmtree(stale, ignore_errors=True)
    say(f"converting {model.name} to {folder}")
    try:
        with _vocabulary(model) as vocab:
            kind.convert(model, [_place(file) for file in model.weights], vocab, folder, record)
    except CannotWrite:  # a full disk: what was fetched waits for room
        raise
    except InputError as error:
        if model.float32_bytes <= available_memory():  # so it is the files
            _drop(fetched)
        raise InputError(f"got no {model.name} from its files: {error}") from error
    _drop([file for file in fetched if file in model.weights])  # a vocabulary is small, and shared


def _fetch(model: PublishedModel) -> dict[PublishedFile, str]:
    """Fetch the files that are not there; returns them, with their SHA-256."""
    missing = [file for file in model.files if not _place(file).is_file()]
    if not missing:
        return {}
    lengths = _lengths(model.name, missing)
    cache.check_disk(sum(lengths.values()) - _begun(missing) + model.float32_bytes, model.name)
    parts = ", ".join(f"{file.name} ({megabytes(lengths[file])})" for file in missing)
    hosts = " and ".join(dict.fromkeys(urlsplit(file.url).hostname or "" for file in missing))
    say(f"{model.name} ({model.words}) is fetched once: {parts}, from {hosts}, into {cache.cache_folder()}")
    say(f"licence: {model.licence}")
    hashes = {}
    for file in missing:
        with cache.locked(file.name):  # a vocabulary belongs to several models
            if not _place(file).is_file():
                hashes[file] = download(file.url, _place(file), lengths[file], file.sha256)
    return hashes


def _lengths(name: str, missing: Sequence[PublishedFile]) -> dict[PublishedFile, int]:
    """The bytes of each file, by the table or the server.

    InputError without a connection, which names the addresses and the place of the files.
    """
    lengths: dict[PublishedFile, int] = {}
    try:
        if os.environ.get(OFFLINE, "").upper() in ("1", "TRUE", "YES", "ON"):
            raise InputError(f"{OFFLINE} is set")
        for file in missing:
            served = look_up(file.url).length
            if served is None:
                raise InputError(f"the server does not say how long {file.name} is")
            if file.length not in (None, served):
                raise InputError(
                    f"the server has {served:,} bytes of {file.name}, published are {file.length:,}"
                )
            lengths[file] = served
    except InputError as error:
        raise InputError(
            f"{name} cannot be fetched ({error}): put {_addresses(missing)} into {cache.files_folder()}, or connect"
        ) from error
    return lengths


def _addresses(files: Sequence[PublishedFile]) -> str:
    """The addresses of files, those of one folder together: "base.pt, upsample.pt of https://host/folder/"."""
    folders: dict[str, list[str]] = {}
    for file in files:
        folders.setdefault(file.url.removesuffix(file.name), []).append(file.name)
    return " and ".join(f"{', '.join(names)} of {folder}" for folder, names in folders.items())


def _begun(files: Iterable[PublishedFile]) -> int:
    """Bytes of these files that an earlier run has fetched already."""
    parts = (_place(file).with_name(f"{file.name}{cache.PARTS[0]}") for file in files)
    return sum(part.stat().st_size for part in parts if part.is_file())


def _place(file: PublishedFile) -> Path:
    return cache.files_folder() / file.name


def _drop(files: Sequence[PublishedFile] | dict[PublishedFile, str]) -> None:
    for file in files:
        with suppress(OSError):
            _place(file).unlink()


def _check_given(file: PublishedFile) -> None:
    """InputError for a file that was there already, as somebody put it there, and is not the published one."""
    path = _place(file)
    size = path.stat().st_size
    if file.length not in (None, size):
        raise InputError(
            f"got {path} of {size:,} bytes, expected the published file of {file.length:,}: fetch {file.url} again"
        )
    if file.sha256 is not None and _sha256(path) != file.sha256:
        raise InputError(f"got another file in {path}, expected the published one: fetch {file.url} again")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _origin(file: PublishedFile, sha256: str | None) -> dict[str, Any]:
    path = _place(file)
    return {"url": file.url, "bytes": path.stat().st_size, "sha256": sha256 or _sha256(path)}


@contextmanager
def _vocabulary(model: PublishedModel) -> Iterator[str | None]:
    """A folder with vocab.json and merges.txt, as tokenizers read them; None for a model without a vocabulary."""
    if not model.vocabulary:
        yield None
        return
    files = [_place(file) for file in model.vocabulary]
    with TemporaryDirectory() as folder:
        if len(files) == 1:
            write_clip_vocabulary(files[0], Path(folder))
        else:
            for file, name in zip(files, ("vocab.json", "merges.txt"), strict=True):
                shutil.copy(file, Path(folder) / name)
        yield folder


def write_clip_vocabulary(packed: Path, folder: Path) -> None:
    """Write vocab.json and merges.txt of CLIP's published merges (bpe_simple_vocab_16e6.txt.gz).

    Its tokens are the bytes, the bytes at the end of a word, the results of the merges, and the two marks.
    InputError for a file that is damaged or holds fewer merges.
    """
    try:
        with gzip.open(packed) as file:
            lines = file.read(MAX_VOCABULARY).decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"got {packed}, which is damaged, expected CLIP's merges: fetch it again") from error
    merges = [line.split() for line in lines[1 : 1 + MERGES_OF_CLIP]]
    if len(merges) < MERGES_OF_CLIP or any(len(pair) != 2 for pair in merges):
        raise InputError(
            f"got {packed}, which does not hold CLIP's {MERGES_OF_CLIP:,} merges: fetch it again"
        )
    letters = _byte_letters()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), CLIP_START, CLIP_END]
    table = {token: number for number, token in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(table), encoding="utf-8")
    text = "\n".join(["#version: 0.2", *map(" ".join, merges), ""])
    (folder / "merges.txt").write_text(text, encoding="utf-8")


def _byte_letters() -> list[str]:
    """The letters that stand for the 256 bytes: those that can be printed first, in the order of their numbers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [letter for letter in alphabet if ord(letter) < 256] + [
        letter for letter in alphabet if ord(letter) >= 256
    ]


def _convert(
    model: PublishedModel, files: Sequence[Path], vocab: str | None, folder: Path, record: dict[str, Any]
) -> None:
    converted = load(files[0], model.options, vocab)
    write_folder(
        folder,
        "diffusion",
        converted.config.to_dict(),
        converted.state_dict(),
        tokenizer=converted.tokenizer,
        training=record,
    )


DIFFUSION = PublishedKind("diffusion", _convert)
"""Diffusion models; noisy classifiers and CLIPs are in the packages that guide."""
