"""Fetch files of the Hugging Face hub, with one clear message if that fails."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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
    hub = hub_package(f"the hub id {hub_id}")
    errors = hub.errors
    name, _, revision = hub_id.partition("@")
    try:
        return Path(hub.snapshot_download(name, revision=revision or None, allow_patterns=files))
    except errors.GatedRepoError as error:  # a kind of the next one
        raise InputError(
            f"got {hub_id}, which the hub gives only to those who accepted its conditions, expected a login that has: "
            "accept them on its page, then `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise InputError(
            f"got {hub_id}, expected a folder here or a model of the hub, which has none of that name for everyone: "
            "check the name, or `hf auth login` for a private one"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(
            f"got the revision {revision!r} of {name}, expected a branch, a tag or a commit that the hub has: check it"
        ) from error
    except Exception as error:  # offline, interrupted: many classes with one meaning
        raise InputError(
            f"there is no folder {hub_id!r}, and the hub did not give it ({hub_reason(error)}): "
            "check the name and the connection, or give a local folder"
        ) from error


def hub_package(what: str) -> Any:
    """The package huggingface_hub. InputError, naming the extra, where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError as error:
        raise InputError(
            f"got {what} without the package huggingface_hub, expected it: pip install 'glide-toolkit[hub]'"
        ) from error
    (
        huggingface_hub.utils.enable_progress_bars
        if shows_bars()
        else huggingface_hub.utils.disable_progress_bars
    )()
    huggingface_hub.utils.logging.set_verbosity_error()  # it warns where a repository lacks an optional file
    return huggingface_hub


def hub_reason(error: Exception) -> str:
    """The first line of an error of the hub."""
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


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
    """The commit of a folder from `hub_folder`, or of a folder in it; None for any other."""
    for place in (folder, folder.parent):
        if place.parent.name == "snapshots" and re.fullmatch(r"[0-9a-f]{40}", place.name):
            return place.name
    return None
