"""Upload a folder to the Hugging Face hub, with one clear message if that fails. Nothing is replaced unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glide.utils.errors import InputError
from glide.utils.hub import hub_package, hub_reason

OWN = [".gitattributes"]
"""Files that the hub itself puts into a new repository."""


def upload(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    message: str = "Upload the model",
    create_pr: bool = False,
    overwrite: bool = False,
) -> tuple[str, str]:
    """Upload all files of a folder as one commit; returns the address and the commit. A missing repository is made.

    repo_id: "name" or "org/name". token: None is the one of `hf auth login`. create_pr: as a pull request, which
    replaces nothing. overwrite: also into a repository that has files, of which those that are not in the folder are
    removed. InputError where the package is not installed, the hub refuses, or the repository has files.
    """
    api = hub_package("an upload to the hub").HfApi(token=token)
    try:
        whole_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        there = _files(api, whole_id)
    except Exception as error:
        raise refused(repo_id, error) from error
    if not create_pr:
        _check_empty(whole_id, there, overwrite)
    kept = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    removed = sorted(set(there) - kept) if overwrite else []
    more: dict[str, Any] = {"delete_patterns": removed} if removed else {}
    try:
        done = api.upload_folder(
            repo_id=whole_id, folder_path=folder, commit_message=message, create_pr=create_pr, **more
        )
    except Exception as error:
        raise refused(repo_id, error) from error
    return str(done), str(getattr(done, "oid", ""))


def check_before_upload(repo_id: str, overwrite: bool = False, token: str | bool | None = None) -> None:
    """InputError, before any work, where nobody is logged in, or the repository has files already."""
    api = hub_package("an upload to the hub").HfApi(token=token)
    try:
        api.whoami()
        there = _files(api, repo_id) if api.repo_exists(repo_id) else []
    except Exception as error:
        raise refused(repo_id, error) from error
    _check_empty(repo_id, there, overwrite)


def _files(api: Any, repo_id: str) -> list[str]:
    return [name for name in api.list_repo_files(repo_id) if name not in OWN]


def _check_empty(repo_id: str, there: list[str], overwrite: bool) -> None:
    if there and not overwrite:
        raise InputError(
            f"got {repo_id}, which holds {len(there)} files on the hub already ({there[0]}, ...), expected a new or "
            "empty repository: give another name, or overwrite (--overwrite); its older commits stay"
        )


def refused(repo_id: str, error: Exception) -> InputError:
    """The message for an upload that failed: offline, not logged in, no rights are a dozen classes of one meaning."""
    return InputError(
        f"the hub did not take {repo_id} ({hub_reason(error)}): check the name, the connection, and `hf auth whoami`"
    )
