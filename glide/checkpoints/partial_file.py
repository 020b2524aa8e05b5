"""The part of a file that is fetched so far, and the marks by which its server knows the file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from glide.utils.atomic_write import flush, write_text
from glide.utils.errors import CannotWrite, InputError, reason_of
from glide.utils.json_files import read_table

BLOCK = 2**20  # bytes read at once


@dataclass(frozen=True)
class Served:
    """A file as a server describes it."""

    url: str
    length: int | None
    """Bytes."""
    etag: str = ""
    modified: str = ""
    md5: str = ""
    """In base64, as Azure sends it; empty where the server sends none."""

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str]) -> Served:
        """By the headers of an answer with the whole file."""
        length = headers.get("Content-Length", "")
        return cls(
            url=url,
            length=int(length) if length.isdigit() else None,
            etag=headers.get("ETag", ""),
            modified=headers.get("Last-Modified", ""),
            md5=headers.get("x-ms-blob-content-md5") or headers.get("Content-MD5", ""),
        )

    @property
    def mark(self) -> str:
        """The mark for If-Range: a strong ETag, else the time of the last change; empty without one."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class PartialFile:
    """The bytes of a file that are there so far, and the server's marks of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes = path.with_name(f"{path.name}.part")
        self.mark = path.with_name(f"{path.name}.part.json")

    def size(self) -> int:
        return self.bytes.stat().st_size if self.bytes.is_file() else 0

    def read_mark(self, url: str) -> Served | None:
        """None without a whole record of this address."""
        if not self.mark.is_file():
            return None
        try:
            found = Served(**read_table(self.mark))
        except (InputError, TypeError):
            return None
        texts = all(isinstance(text, str) for text in (found.etag, found.modified, found.md5))
        return found if texts and found.url == url and isinstance(found.length, int) else None

    def write_mark(self, served: Served) -> None:
        write_text(self.mark, json.dumps(asdict(served)) + "\n")

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """For appending. CannotWrite where the disk is full or forbids it; what was written stays."""
        try:
            file = open(self.bytes, "ab")  # noqa: SIM115 (closed below, which can fail, too)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield file
        finally:
            try:
                file.close()
            except OSError as error:
                raise self._unwritable(error) from error

    def write(self, file: BinaryIO, chunk: bytes) -> None:
        """Append. CannotWrite as `open`."""
        try:
            file.write(chunk)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> CannotWrite:
        return CannotWrite(
            f"got no room or permission to write {self.bytes} ({reason_of(error)}), expected both: make room, and the "
            "same command continues"
        )

    def clear(self) -> None:
        for path in (self.bytes, self.mark):
            path.unlink(missing_ok=True)

    def check(self, served: Served, sha256: str | None) -> str:
        """The SHA-256 of the bytes. InputError, and nothing is kept, where they are not those that were announced."""
        found, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        with open(self.bytes, "rb") as file:
            while chunk := file.read(BLOCK):
                found.update(chunk)
                md5.update(chunk)
        wrong = sha256 is not None and found.hexdigest() != sha256
        if wrong or (served.md5 and base64.b64encode(md5.digest()).decode() != served.md5):
            self.clear()
            raise InputError(
                f"got bytes from {served.url} with another checksum than the published file's, expected the same: "
                "nothing is kept; try again"
            )
        return found.hexdigest()

    def finish(self) -> None:
        """Give the whole file its name."""
        try:
            flush(self.bytes)
            os.replace(self.bytes, self.path)
            self.mark.unlink(missing_ok=True)
        except OSError as error:
            raise CannotWrite(
                f"{self.path} was not written ({reason_of(error)}): make room, and try again"
            ) from error
