"""Fetch files of the Hugging Face hub, with one clear message if that fails."""

from __future__ import annotations

import re
from pathlib import Path

from glide.utils.errors import InputError
from glide.utils.progress import shows_bars

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(?:@\w[\w./-]*)?")
"""org/name, or org/name@revision: a branch, a tag or a commit."""


def hub_folder(hub_id: str, files: list[str]) -> Path:
    """The local copy of a hub repository: the files that match the patterns `files`, downloaded if needed.

    hub_id: "org/name" or "org/name@revision". InputError for an invalid id, an unknown repository or revision,
    or a missing connection.
    """
    if not HUB_ID.fullmatch(hub_id):
        raise InputError(
            f"there is no folder {hub_id!r}, and it is no hub id (org/name) either: check the path"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if shows_bars() else disable_progress_bars)()
    try:
        name, _, revision = hub_id.partition("@")
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=files))
    except Exception as error:  # offline, unknown, private, interrupted: many classes with one meaning
        reason = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
        raise InputError(
            f"there is no folder {hub_id!r}, and the hub did not give it ({reason}): "
            "check the name and the connection, or give a local folder"
        ) from error


def at_revision(name: str, revision: str | None) -> str:
    """A hub id with another revision; without a revision, any name. InputError for a revision of another name."""
    if revision is None:
        return name
    hub_id = f"{name.partition('@')[0]}@{revision}"
    if not HUB_ID.fullmatch(hub_id) or Path(name).exists():
        raise InputError(
            f"got the revision {revision!r} for {name}, expected one of a hub id (org/name): leave it out, or check "
            "both"
        )
    return hub_id


def commit_of(folder: Path) -> str | None:
    """The commit of a folder from `hub_folder`; None for any other folder."""
    in_cache = folder.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", folder.name)
    return folder.name if in_cache else None
