"""Pictures in memory, by ids that nobody can guess: uploads and results. The oldest go first.

Imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

from glide.utils.errors import InputError

MOST_BYTES = 256 * 2**20
MOST_PICTURES = 2000


@dataclass(frozen=True)
class Stored:
    """A picture's file."""

    data: bytes
    media_type: str
    name: str
    """Of the file that it was, or is to be saved as; for recipes and downloads, never a path."""

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class PictureStore:
    """At most so many bytes and pictures. Threads may share it."""

    def __init__(self, most_bytes: int = MOST_BYTES, most: int = MOST_PICTURES) -> None:
        self.most_bytes, self.most = most_bytes, most
        self._held: OrderedDict[str, Stored] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, picture: Stored) -> str:
        """Its id. Pictures that were not asked for longest make room."""
        identity = secrets.token_urlsafe(15)
        with self._lock:
            self._held[identity] = picture
            self._bytes += len(picture.data)
            while len(self._held) > 1 and (self._bytes > self.most_bytes or len(self._held) > self.most):
                _, gone = self._held.popitem(last=False)
                self._bytes -= len(gone.data)
        return identity

    def get(self, identity: str) -> Stored:
        """InputError where it is not there, or not any more."""
        with self._lock:
            picture = self._held.get(identity)
            if picture is None:
                raise InputError(
                    "got the id of a picture that the server does not hold any more, expected one of now: give the "
                    "picture again"
                )
            self._held.move_to_end(identity)
        return picture

    @property
    def bytes(self) -> int:
        """Bytes that are held."""
        return self._bytes

    def __len__(self) -> int:
        return len(self._held)


def plain_name(name: str | None, default: str) -> str:
    """A file's name without folders and without what a header or a terminal could take for more than a name."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in last if letter.isalnum() or letter in " ._-()")
    return kept.strip(" .")[-100:] or default
