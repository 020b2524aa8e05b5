"""Further networks in a model's folder: an upsampler and guides, in folders of their own.

So one name is enough: `--model ORG/NAME --size 256`, `--clip ORG/NAME`. Each is fetched when it is asked for.
"""

from __future__ import annotations

from pathlib import Path

from glide.checkpoints.model_folder import CONFIG
from glide.checkpoints.names import HUB_FILES, embedded_models, published_model, resolve
from glide.checkpoints.zip_models import is_zip
from glide.utils.filesystem import is_remote
from glide.utils.hub import HUB_ID, commit_of

PARTS = ("upsampler", "classifier", "clip", "weak")
"""The folders, each with its `Options` name or flag."""


def with_part(name: str | Path, part: str) -> Path | None:
    """The folder of a part of the model of that name, fetched from the hub if needed; None where it has none.

    name: as for `resolve`. InputError as there for a name of the hub, or a zip, that cannot be read.
    """
    text = str(name)
    if is_remote(name) or text in embedded_models() or published_model(name) or text.endswith(".pt"):
        return None
    if Path(name).is_dir() or is_zip(name):
        inner = resolve(name) / part
        return inner if (inner / CONFIG).is_file() else None
    if not HUB_ID.fullmatch(text):
        return None
    folder = resolve(name, files=[f"{part}/{CONFIG}"])
    if not (folder / part / CONFIG).is_file():
        return None
    commit = commit_of(folder)
    fixed = f"{text.partition('@')[0]}@{commit}" if commit else name
    return resolve(fixed, files=[f"{part}/{file}" for file in HUB_FILES]) / part


def part_or(name: str | Path, part: str) -> str | Path:
    """The folder of a part, as `with_part`, or the name itself where there is none."""
    return with_part(name, part) or name
