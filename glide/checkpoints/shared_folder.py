"""The folder of a model as it is given to others: its own files alone, without checkpoints, logs and local paths."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from glide.checkpoints.first_stages import HELD
from glide.checkpoints.model_folder import CONFIG, TOKENIZER, WEIGHTS, newest_file, read_config
from glide.checkpoints.shared_record import shared_record
from glide.checkpoints.text_encoders import FILES as ENCODER_FILES
from glide.checkpoints.text_encoders import FOLDER as ENCODER
from glide.utils.atomic_write import atomic_path, cannot_write
from glide.utils.errors import InputError, NameTaken
from glide.utils.json_files import read_table
from glide.utils.numbers import shown_number

README = "README.md"
ATTRIBUTION = "ATTRIBUTION.md"
RUN_MODEL = "model"
"""The folder of the model in that of an automatic training."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of all files in a zip: the same model gives the same bytes, and no time of the day leaves."""
STORED = (".safetensors", ".png")
"""Files that compression does not make smaller."""
METADATA = {"format", "write"}
"""Texts in the header of a file of weights."""


def model_of_run(run: str | Path) -> Path:
    """The folder of the model that a run has made: the run's own, or model/ of an automatic training.

    InputError for a folder without a trained model.
    """
    run = Path(run).expanduser()
    for folder in (run / RUN_MODEL, run):
        if (folder / CONFIG).is_file() and newest_file(folder, WEIGHTS).is_file():
            return folder
    if not run.is_dir():
        raise InputError(
            f"got {run}, which is no folder, expected that of a training or a model: check the path"
        )
    unfinished = any((run / name).exists() for name in ("checkpoints", "auto.json", "base"))
    held = "a training that has not written its model yet" if unfinished else "no trained model"
    do = "let it end, or resume it with --resume" if unfinished else "give the folder that a training wrote"
    raise InputError(f"got {run}, which holds {held}, expected {CONFIG} and {WEIGHTS}: {do}")


def copy_model(source: Path, target: Path, parts: Mapping[str, Path]) -> dict[str, Any]:
    """Copy a model and its further networks into the new folder `target`; returns the record in its config.json.

    parts: folders of upsamplers and guides by their place in the model's folder (`glide.checkpoints.model_parts`).
    InputError for a model that is not whole, that needs a network which is on this machine alone, or that cannot be
    written.
    """
    try:
        record = _copy_one(source, target)
        for name, folder in parts.items():
            _copy_one(folder, target / name)
    except OSError as error:
        raise cannot_write(target, error) from error
    return record


def _copy_one(source: Path, target: Path) -> dict[str, Any]:
    record = shared_record(read_config(source))
    target.mkdir(parents=True, exist_ok=True)
    _write_record(target / CONFIG, record)
    _copy_weights(newest_file(source, WEIGHTS), target / WEIGHTS)
    names = [TOKENIZER] if record.get("tokenizer") else []
    names += [ATTRIBUTION] if (source / ATTRIBUTION).is_file() else []
    for name in names:
        shutil.copyfile(newest_file(source, name), target / name)
    if (source / HELD / CONFIG).is_file() and (record["model"].get("first_stage") or {}).get("source") == "":
        _copy_first_stage(source / HELD, target / HELD)
    if (source / ENCODER / CONFIG).is_file() and (record["model"].get("text_encoder") or {}).get("embedded"):
        _copy_encoder(source / ENCODER, target / ENCODER)
    return record


def _copy_first_stage(source: Path, target: Path) -> None:
    """An autoencoder of this project, or of diffusers in its own format."""
    record = read_table(source / CONFIG)
    if "kind" in record:
        _copy_one(source, target)
        return
    target.mkdir()
    _write_record(target / CONFIG, {key: value for key, value in record.items() if key != "_name_or_path"})
    for weights in source.glob("*.safetensors"):
        _copy_weights(weights, target / weights.name)


def _copy_encoder(source: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(path for pattern in ENCODER_FILES for path in source.glob(pattern)):
        if path.name == CONFIG:
            kept = {key: value for key, value in read_table(path).items() if key != "_name_or_path"}
            _write_record(target / CONFIG, kept)
        elif path.suffix == ".safetensors":
            _copy_weights(path, target / path.name)
        else:
            shutil.copyfile(path, target / path.name)


def _write_record(path: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _copy_weights(source: Path, target: Path) -> None:
    """Copy a file of weights. InputError for one that is damaged, or carries texts of another program."""
    try:
        with safe_open(source, framework="pt") as file:
            other = sorted(set(file.metadata() or {}) - METADATA)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{source} is damaged or cut short ({error}): save or fetch the model again"
        ) from error
    if other:
        raise InputError(
            f"got {source} with {shown_number(other[0])} in its header, which another program wrote, expected weights "
            "alone: load the model, and write it by save_pretrained"
        )
    shutil.copyfile(source, target)


def write_zip(folder: Path, path: Path, overwrite: bool = False) -> None:
    """Write all files of a folder into a zip, below a folder of the zip's name. The same files give the same bytes.

    InputError if it cannot be written, or is there and is not to be replaced.
    """
    with atomic_path(path, overwrite) as draft:
        with zipfile.ZipFile(draft, "w") as file:
            for one in sorted(one for one in folder.rglob("*") if one.is_file()):
                name = f"{path.stem}/{one.relative_to(folder).as_posix()}"
                kind = zipfile.ZIP_STORED if one.suffix in STORED else zipfile.ZIP_DEFLATED
                info = zipfile.ZipInfo(name, EPOCH)
                info.compress_type, info.external_attr = kind, 0o644 << 16
                with open(one, "rb") as source, file.open(info, "w", force_zip64=True) as out:
                    shutil.copyfileobj(source, out, 2**22)
        with suppress(OSError):
            os.chmod(draft, 0o644)


def check_free(path: Path, overwrite: bool) -> None:
    """NameTaken for an output that is there already, before the work begins."""
    if path.suffix.lower() != ".zip":
        raise InputError(f"got --zip {path}, expected a name that ends in .zip: write --zip {path}.zip")
    if path.is_dir() or (path.exists() and not overwrite):
        raise NameTaken(f"{path} exists already: give another name, or --overwrite")
