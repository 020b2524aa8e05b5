"""Checkpoints of a run: written atomically, kept by a policy, verified before they are used.

A checkpoint is a folder `step-0001000` of files and a manifest, which holds the size and the SHA-256 of each. It is
written under another name, flushed to the disk and renamed, so a process that is killed at any moment leaves either the
whole checkpoint or none of that name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from glide.utils.atomic_write import cannot_write, flush
from glide.utils.errors import InputError, warn
from glide.utils.json_files import read_table

MANIFEST = "manifest.json"
STATE = "state.pt"
_UNFINISHED = ("*.tmp", "*.old")


class Checkpoints:
    """The checkpoints of one run. keep: the number of newest ones kept. every: also keep multiples of it (0: none)."""

    def __init__(self, folder: Path, keep: int = 2, every: int = 0) -> None:
        self.folder, self.keep, self.every = folder, keep, every

    def steps(self) -> list[int]:
        """The steps of the checkpoints, ascending."""
        names = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(m[1]) for p in names if (m := re.fullmatch(r"step-(\d{7,15})", p.name)))

    def path(self, step: int) -> Path:
        return self.folder / f"step-{step:07d}"

    def write(self, step: int, files: Callable[[Path], None], about: Mapping[str, Any]) -> None:
        """Write the checkpoint of `step`: files(folder) writes its files, `about` (JSON-able) joins the manifest.

        Then remove older ones by the policy. CannotWrite for a full disk, a folder without permission and the like:
        earlier checkpoints are then still there.
        """
        path = self.path(step)
        temporary = self.folder / f"{path.name}.tmp"
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            files(temporary)
            for file in temporary.iterdir():
                flush(file)
            checksums = {
                file.name: [file.stat().st_size, sha256(file)] for file in sorted(temporary.iterdir())
            }
            manifest = temporary / MANIFEST
            manifest.write_text(json.dumps({"step": step, "files": checksums, **about}, indent=1) + "\n")
            flush(manifest)
            if path.exists():
                self._remove(path)
            os.replace(temporary, path)
            flush_folder(self.folder)
        except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: torch.save on a full disk
            shutil.rmtree(temporary, ignore_errors=True)
            raise cannot_write(path, error) from error
        self._prune()

    def newest_good(self) -> Path | None:
        """The newest intact checkpoint, or None; damaged ones raise a warning."""
        for step in reversed(self.steps()):
            fault = damage(self.path(step))
            if fault is None:
                return self.path(step)
            warn(f"{self.path(step)} is damaged ({fault}); an older one is looked for", stacklevel=2)
        return None

    def newest_to(self, step: int) -> Path | None:
        """The newest checkpoint up to `step`, or None."""
        return next((self.path(s) for s in reversed(self.steps()) if s <= step), None)

    def set_aside(self, after: int) -> None:
        """Rename the checkpoints of steps after `after` to `diverged-...`, so that no run resumes from them."""
        for step in (s for s in self.steps() if s > after):
            bad = self.folder / f"diverged-{step:07d}"
            shutil.rmtree(bad, ignore_errors=True)
            with suppress(OSError):
                os.replace(self.path(step), bad)

    def _prune(self) -> None:
        steps = self.steps()
        for step in steps[: -max(1, self.keep)]:
            if not (self.every and step % self.every == 0):
                self._remove(self.path(step))
        for pattern in _UNFINISHED:  # of processes that were killed
            for left in self.folder.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)

    def _remove(self, path: Path) -> None:
        """Rename, then remove: a half-removed folder must not look like a checkpoint."""
        old = path.with_name(f"{path.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        with suppress(OSError):
            os.replace(path, old)
            shutil.rmtree(old, ignore_errors=True)


def read_manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest; empty where there is none (older checkpoints have none)."""
    try:
        return read_table(path / MANIFEST)
    except InputError:
        return {}


def damage(path: Path) -> str | None:
    """The damage to a checkpoint's files, in words; None if they are intact."""
    if not (path / MANIFEST).exists():
        return _unreadable(path)  # of an older version: no checksums to compare with
    manifest = read_manifest(path)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(_is_checksum(*entry) for entry in files.items()):
        return f"{MANIFEST} cannot be read"
    if path.name.rpartition("-")[2] != str(manifest.get("step")).zfill(7):
        return f"{MANIFEST} is of another step"
    if STATE not in files:
        return f"{STATE} is missing"
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, {size} were written"
        if sha256(file) != digest:
            return f"{name} is not what was written"
    return None


def _is_checksum(name: str, entry: object) -> bool:
    """True for an entry of a manifest that names a file in its folder, its size and its SHA-256."""
    plain = Path(name).name == name and name not in ("", ".", "..")
    return plain and isinstance(entry, list) and [type(value) for value in entry] == [int, str]


def _unreadable(path: Path) -> str | None:
    try:
        torch.load(path / STATE, weights_only=True, map_location="cpu")
        for file in path.glob("*.safetensors"):
            with safe_open(file, framework="pt") as opened:
                opened.keys()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Wait until a rename in the folder is on the disk, on systems that support it."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
