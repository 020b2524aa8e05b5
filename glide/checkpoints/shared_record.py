"""The record of a model that is given to others: without paths, user names and host names of where it was made."""

from __future__ import annotations

import getpass
import re
import shlex
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from glide.utils.errors import InputError

_START = (
    r"(?<![\w/.\\~\-})\]*])(?:file:/*(?=/)|[\w.\-]+@[\w.\-]+:|\\(?=\\)|~[\w.\-]*(?=[\\/])|\.\.(?=[\\/])"
    r"|(?:home|Users)(?=[\\/])|[A-Za-z]:(?=[\\/])|(?=/(?!/)))"
)
"""The beginning of a local path: file://, user@host:, a share of Windows, ~, .., home/, a drive, or a slash."""
_REST = r"(?:[\\/]+[^\\/,:'\"={rest}]+)+[\\/]*"
IN_A_WORD = re.compile(_START + _REST.replace("{rest}", ""))
IN_PROSE = re.compile(_START + _REST.replace("{rest}", r"\s"))
COMMON = {"root", "user", "home", "localhost", "users", "admin", "ubuntu"}
"""Names that say nothing of anybody."""


def shared_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a `config.json` as they may leave this machine.

    Paths are cut to their last name, also ~/x and ../x, and the names of the present user and machine are left out.
    InputError for a model that needs a network which is in a folder of this machine alone.
    """
    _check_whole(record.get("model"))
    return {**record, "training": _clean(record.get("training"), own_names())}


def own_names() -> dict[str, str]:
    """The names of this user and this machine, each with what is written in its place."""
    found = {
        Path.home().name: "user",
        socket.gethostname(): "host",
        socket.gethostname().partition(".")[0]: "host",
    }
    with suppress(KeyError, OSError):  # a user without a name, as in some containers
        found[getpass.getuser()] = "user"
    return {name: other for name, other in found.items() if len(name) > 2 and name.lower() not in COMMON}


def without_places(text: str, names: Mapping[str, str] | None = None) -> str:
    """A text without local paths and the names of user and machine. A command line stays one.

    names: as `own_names`.
    """
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that is not closed
        words = []
    if words and words[0] in ("python", "glide", "torchrun", "accelerate"):
        cut = [IN_A_WORD.sub(_last, word) for word in words]
        text = text if cut == words else shlex.join(cut)
    whole = IN_A_WORD.match(text)
    text = IN_A_WORD.sub(_last, text) if whole else IN_PROSE.sub(_last, text)
    for name, other in (own_names() if names is None else names).items():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", other, text)
    return text


def _last(path: re.Match[str]) -> str:
    return re.split(r"[\\/]", path[0].rstrip("\\/"))[-1]


def _clean(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {without_places(key, names): _clean(one, names) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one, names) for one in value]
    return without_places(value, names) if isinstance(value, str) else value


def _check_whole(config: Any) -> None:
    """InputError for settings of an encoder in a folder."""
    if not isinstance(config, Mapping):
        return
    for name, part in config.items():
        if isinstance(part, Mapping) and part.get("path") and part.get("source"):
            flag = "--embed-encoder" if name == "text_encoder" else "a hub id"
            raise InputError(
                f"got a model whose {name} {Path(part['source']).name} is in a folder of this machine, expected one in "
                f"the model's folder or on the hub: train it with {flag}"
            )
        _check_whole(part)
