"""Files of the Hugging Face hub, with one clear sentence when they cannot be had."""

from __future__ import annotations

import re
from pathlib import Path

from glide.bars import shows_bars
from glide.errors import InputError

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


def hub_folder(hub_id: str, files: list[str]) -> Path:
    """The local copy of a hub repository: the files that match the patterns `files`, downloaded if needed.

    hub_id: "org/name". InputError if it is no such id, there is no such repository, or no connection to it.
    """
    if not HUB_ID.fullmatch(hub_id):
        raise InputError(
            f"there is no folder {hub_id!r}, and it is no hub id (org/name) either: check the path"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if shows_bars() else disable_progress_bars)()
    try:
        return Path(snapshot_download(hub_id, allow_patterns=files))
    except Exception as error:  # offline, unknown, private, cut off: a dozen classes, one meaning
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"there is no folder {hub_id!r}, and the hub did not give it ({reason}): "
            "check the name and the connection, or give a local folder"
        ) from error
