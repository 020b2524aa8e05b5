"""List, fetch and remove published models in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glide.checkpoints import cache as models
from glide.checkpoints.cache import megabytes
from glide.checkpoints.fetch_published import DIFFUSION, PublishedKind, published_folder
from glide.checkpoints.published import MODELS, Kind, PublishedModel, near
from glide.utils.errors import InputError
from glide.utils.printable import say
from guidance.classifier.load import PUBLISHED as CLASSIFIER
from guidance.clip.load import PUBLISHED as CLIP
from toolkit.commands.cache_flags import Cache

_KINDS: dict[Kind, PublishedKind] = {kind.kind: kind for kind in (DIFFUSION, CLASSIFIER, CLIP)}


def cache(args: Cache) -> None:
    """Do what is asked. InputError for an unknown name, and what cannot be fetched or removed."""
    if args.action == "list":
        _list()
    elif args.action == "available":
        _available()
    elif args.action == "fetch":
        for model in known(args.names):
            say(f"{model.name}: {folder_of(model)}", result=True)
    else:
        for name in args.names:
            say(f"{name}: {megabytes(models.remove(name))} removed", result=True)


def known(names: Sequence[str]) -> list[PublishedModel]:
    """The published models of these names. InputError for an unknown one, with the nearest and all that are there."""
    for name in names:
        if name not in MODELS:
            hint = f"did you mean {like!r}?" if (like := near(name)) else "give one of them"
            raise InputError(
                f"there is no published model {name!r}, expected one of {', '.join(MODELS)}: {hint}"
            )
    return [MODELS[name] for name in names]


def folder_of(model: PublishedModel) -> Path:
    """The folder of a published model of any kind; fetched and converted if needed. Errors as `published_folder`."""
    return published_folder(model, _KINDS[model.kind])


def _list() -> None:
    entries = models.entries()
    say(
        f"{models.cache_folder()}: {'nothing' if not entries else megabytes(sum(e.size for e in entries))}",
        result=True,
    )
    for entry in entries:
        words = MODELS[entry.name].words if entry.words == "model" and entry.name in MODELS else entry.words
        say(f"  {entry.name:28} {megabytes(entry.size):>9}  {words}", result=True)


def _available() -> None:
    """The table: sizes that no source states are those of the tensors as float32, which "about" says."""
    for model in MODELS.values():
        lengths = [file.length for file in model.weights]
        stated = all(lengths)
        size = sum(length or 0 for length in lengths) if stated else model.float32_bytes
        here = ", in the cache" if models.is_converted(models.model_in_cache(model.name)) else ""
        said = f"{'' if stated else 'about '}{megabytes(size)}"
        say(f"{model.name:24} {said:>14}  {model.words}{here}", result=True)
        for file in model.files:
            say(f"    {file.url}", result=True)
    for licence in dict.fromkeys(model.licence for model in MODELS.values()):
        say(f"licence: {licence}", result=True)
