"""Model folders: `config.json`, `model.safetensors` and, for models that read text, `tokenizer.json`.

Every kind of model is saved in one: diffusion models (load.py), classifiers, CLIP. Nothing is pickled.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from glide.checkpoints.state_dicts import check_finite
from glide.networks.tokenizer import Tokenizer
from glide.utils.atomic_write import cannot_write, flush
from glide.utils.errors import InputError
from glide.utils.file_locks import alone_in
from glide.utils.filesystem import read_bytes, without_local_paths
from glide.utils.json_files import read_table
from glide.utils.memory import check_file_fits
from glide.utils.numbers import shown_number
from glide.utils.printable import few
from glide.version import __version__

FORMAT = 1
MAX_CONFIG = 2**24  # bytes; a config with the names of 100,000 classes has about 2 MB
T = TypeVar("T")
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"


def write_folder(
    folder: str | Path,
    kind: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    *,
    tokenizer: Tokenizer | None = None,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
    parts: Callable[[Path], None] | None = None,
) -> None:
    """Write a model folder, or replace the model in it; other files in it stay.

    kind: of model ("diffusion", "classifier", ...). config, training: JSON-able.
    dtype: of the weights in the file (None: unchanged). overwrite: also replace files of the same names that are not of
    this toolkit, such as another library's model.
    parts: writes other models into the folder, as folders of their own, before the model itself is there.
    InputError if it cannot be written: an earlier model is then still there.
    """
    folder = Path(folder)
    # The name of this write is in both files, so that files of two writes are never mixed.
    write = uuid.uuid4().hex[:8]
    record = _record(kind, config, write, tokenizer is not None, training)
    tensors = {name: _to_file(name, tensor, dtype) for name, tensor in state.items()}
    # A new folder appears at once, by one rename. An old one may hold a training run besides the model.
    new = not folder.exists()
    target = folder.with_name(f".{folder.name}.{write}.tmp") if new else folder
    scratch = target / f"{_SCRATCH}{write}"
    begun = False
    files = [(target / name, target / _draft(name, write)) for name in (WEIGHTS, TOKENIZER, CONFIG)]
    with nullcontext() if new else alone_in(folder):  # of two writers, one after the other
        if not overwrite:
            _check_own(folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
            _write_drafts([draft for _, draft in files], scratch, tensors, tokenizer, record)
            if parts is not None:
                parts(target)
            for path, draft in files:
                if not draft.exists():
                    continue
                os.replace(draft, path)
                begun = True  # from now on, readers use the remaining drafts of this write (newest_file)
            if new:
                os.replace(target, folder)
            elif tokenizer is None:
                (folder / TOKENIZER).unlink(missing_ok=True)
            _remove_stale(folder)
        except (OSError, SafetensorError) as error:
            raise cannot_write(folder, error) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
            if new:
                shutil.rmtree(target, ignore_errors=True)
            elif not begun:
                for _, draft in files:
                    with suppress(OSError):
                        draft.unlink()


def _record(
    kind: str, config: Mapping[str, Any], write: str, has_tokenizer: bool, training: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The contents of `config.json`."""
    return {
        "format": FORMAT,
        "kind": kind,
        "version": __version__,
        "write": write,
        "tokenizer": has_tokenizer,
        "model": dict(config),
        "training": without_local_paths(dict(training)) if training is not None else None,
    }


def _write_drafts(
    drafts: Sequence[Path],
    scratch: Path,
    tensors: dict[str, Tensor],
    tokenizer: Tokenizer | None,
    record: Mapping[str, Any],
) -> None:
    """Write weights, tokenizer and configuration under temporary names, and wait until they are on the disk.

    scratch: a new folder, as safetensors first writes under its own temporary name, which a kill would leave behind.
    """
    weights, words, config = drafts
    scratch.mkdir()
    save_file(tensors, scratch / WEIGHTS, metadata={"format": "pt", "write": record["write"]})
    os.replace(scratch / WEIGHTS, weights)
    weights.chmod(0o644)  # safetensors makes it readable only by its owner
    if tokenizer is not None:
        tokenizer.save(words)
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    config.write_text(text, encoding="utf-8", errors="backslashreplace")
    for draft in drafts:
        if draft.exists():
            flush(draft)


def _remove_stale(folder: Path) -> None:
    """Remove the leftovers of earlier writes that were killed."""
    for stale in folder.iterdir():
        if _DRAFT.fullmatch(stale.name):
            stale.unlink(missing_ok=True)
        elif re.fullmatch(rf"{re.escape(_SCRATCH)}[0-9a-f]{{8}}", stale.name):
            shutil.rmtree(stale, ignore_errors=True)


def check_no_model(folder: str | Path, overwrite: bool = False) -> None:
    """InputError if a folder holds files of a model, this toolkit's or another's, unless `overwrite` is true.

    Commands that write a model call it first.
    """
    there = _existing_files(Path(folder))
    if there and not overwrite:
        raise InputError(
            f"{folder} already holds a model ({', '.join(there)}): give another --out, or --overwrite to write over it"
        )


def _check_own(folder: Path) -> None:
    """InputError if a folder holds files with a model's names that this toolkit has not written."""
    there = _existing_files(folder)
    try:
        own = not there or set(read_table(newest_file(folder, CONFIG), max_bytes=MAX_CONFIG)) >= _KEYS
    except InputError:
        own = False
    if not own:
        raise InputError(
            f"{folder} holds {', '.join(there)} that this toolkit has not written: give another folder, or ask to "
            "overwrite them"
        )


def _existing_files(folder: Path) -> list[str]:
    return [name for name in (CONFIG, WEIGHTS, TOKENIZER) if os.path.lexists(folder / name)]


def read_config(folder: str | Path, kind: str | None = None) -> dict[str, Any]:
    """The record in a folder's `config.json`: format, kind, version, model, training.

    InputError if it is missing, damaged, foreign, of a newer toolkit, or of another kind than `kind`.
    """
    path = newest_file(folder, CONFIG)
    if not path.is_file() and not (path := Path(folder) / CONFIG).is_file():
        raise InputError(
            f"{folder} is no model folder: there is no {CONFIG} in it; give the folder of a model"
        )
    record = _read_newest(folder, CONFIG, lambda path: read_table(path, max_bytes=MAX_CONFIG))
    if "_class_name" in record:
        raise InputError(
            f"got {path} of a {shown_number(record['_class_name'])} of diffusers, which is one part of a model, "
            "expected a whole one: give the folder of the pipeline, with its model_index.json"
        )
    if not set(record) >= _KEYS:
        raise InputError(f"{path} is not this toolkit's: give a folder that it saved")
    if not isinstance(record["format"], int) or record["format"] > FORMAT:
        raise InputError(
            f"{path} was written by a newer version, {record.get('version')} (format {record['format']}; "
            f"this is {__version__}, format {FORMAT}): update the toolkit"
        )
    if kind is not None and record["kind"] != kind:
        held, asked = (f"{'an' if word == 'autoencoder' else 'a'} {word}" for word in (record["kind"], kind))
        raise InputError(f"{folder} holds {held} model, expected {asked} model: give another folder")
    return record


def read_tokenizer(folder: str | Path, record: Mapping[str, Any]) -> Tokenizer | None:
    """The folder's tokenizer, or None if `record` (of `read_config`) says it has none."""
    return _read_newest(folder, TOKENIZER, Tokenizer.load) if record.get("tokenizer") else None


def load_weights(
    module: nn.Module,
    folder: str | Path,
    device: str | torch.device = "cpu",
    file_name: str = WEIGHTS,
    rename: Callable[[str], str] = str,
) -> None:
    """Fill a module, which may be on the meta device, with the folder's weights as float32 on `device`.

    file_name: of another library's weights. rename: from a tensor's name in the file to that in the module.
    InputError if the file is missing, damaged, or does not fit the module; it names the first tensors that differ.
    """
    path = Path(folder) / file_name
    expected = module.state_dict()
    if not path.is_file():
        raise InputError(f"{path} is missing: the folder is incomplete, save or fetch the model again")
    try:
        with safe_open(path, framework="pt") as file:
            names = {rename(name): name for name in file.keys()}  # noqa: SIM118
            shapes = {name: tuple(file.get_slice(stored).get_shape()) for name, stored in names.items()}
            _check_fit(path, expected, shapes)
            check_file_fits(sum(4 * math.prod(shape) for shape in shapes.values()), path, "its weights")
            # a copy: no tensor stays mapped to a file that may be replaced
            state = {
                name: file.get_tensor(stored).to(device, _memory_dtype(expected[name]), copy=True)
                for name, stored in names.items()
            }
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path} is damaged or cut short ({error}): save or fetch the model again"
        ) from error
    try:
        check_finite(state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    module.load_state_dict(state, assign=True)


def _memory_dtype(like: Tensor) -> torch.dtype:
    return torch.float32 if like.is_floating_point() else like.dtype


def _check_fit(path: Path, expected: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in shapes]
    unknown = sorted(set(shapes) - set(expected))
    other = [
        f"{name} is {shapes[name]}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    faults = [
        f"{len(names)} tensors {what}: {few(names, 3)}"
        for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other))
        if names
    ]
    if faults:
        raise InputError(f"{path} does not fit its {CONFIG} ({'; '.join(faults)}): give files of one model")


def _to_file(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    tensor = tensor.detach()
    if dtype is None or not tensor.is_floating_point():
        return tensor.cpu().contiguous()  # channels_last weights are not contiguous
    cast = tensor.to("cpu", dtype).contiguous()
    if bool(torch.isinf(cast).any()) and not bool(torch.isinf(tensor).any()):
        raise InputError(f"the weights {name} are too large for {dtype}: save them in float32 or bfloat16")
    return cast


_SCRATCH = ".write-"
_KEYS = {"format", "kind", "model"}  # of a record of this toolkit
_DRAFT = re.compile(rf"\.({'|'.join(map(re.escape, (WEIGHTS, TOKENIZER, CONFIG)))})\.[0-9a-f]{{8}}\.tmp")


def _draft(name: str, write: str) -> str:
    return f".{name}.{write}.tmp"


def newest_file(folder: str | Path, name: str) -> Path:
    """The newest version of `name` in a model folder: its draft, if a write was killed between two of its renames.

    The weights are renamed first, so they identify the newest write. Reading changes nothing.
    """
    folder = Path(folder)
    write = _write_of_weights(folder / WEIGHTS)
    if write is not None and _DRAFT.fullmatch(_draft(name, write)):
        draft = folder / _draft(name, write)
        if draft.is_file() and not draft.is_symlink():
            return draft
    return folder / name


def metadata_files(folder: str | Path) -> dict[str, bytes]:
    """The files of a model folder besides its weights, by name: all that a model needs in addition to its weights.

    InputError if one cannot be read.
    """
    files = ((name, newest_file(folder, name)) for name in (CONFIG, TOKENIZER))
    return {name: read_bytes(path) for name, path in files if path.is_file()}


def _read_newest(folder: str | Path, name: str, read: Callable[[Path], T]) -> T:
    path = newest_file(folder, name)
    try:
        return read(path)
    except InputError:
        if path.name == name or path.exists():
            raise
        return read(Path(folder) / name)  # its writer, still running, has just renamed it


def _write_of_weights(path: Path) -> str | None:
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("write")
    except (OSError, SafetensorError):
        return None  # load_weights reports the fault
