"""Models by name: folders, zip files of them, embedded models, published models and files, or the hub."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from glide.checkpoints.diffusers_kinds import PARTS
from glide.checkpoints.fetch_published import DIFFUSION, PublishedKind, published_folder
from glide.checkpoints.model_folder import CONFIG, MAX_CONFIG, TOKENIZER, WEIGHTS
from glide.checkpoints.published import MODELS, PublishedModel, name_of_file
from glide.checkpoints.text_encoders import FILES as ENCODER_FILES
from glide.checkpoints.text_encoders import FOLDER as ENCODER
from glide.checkpoints.zip_models import is_zip, unpacked
from glide.utils.errors import InputError, one_line
from glide.utils.hub import HUB_ID, commit_of, hub_folder
from glide.utils.json_files import read_table
from glide.utils.numbers import shown_number

HUB_FILES = [CONFIG, WEIGHTS, TOKENIZER]
HUB_FILES += [
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
]  # of a large CLIP of transformers
HUB_FILES += ["tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"]
HUB_FILES += [f"first_stage/{name}" for name in (CONFIG, WEIGHTS, "diffusion_pytorch_model.safetensors")]
HUB_FILES += [f"{ENCODER}/{name}" for name in ENCODER_FILES]
"""The files to fetch: a model's own, without its training checkpoints and other formats of the same weights."""
PIPELINE = "model_index.json"
"""The file by which a folder is a pipeline of diffusers."""
SCHEDULER = "scheduler_config.json"
PIPELINE_SETTINGS = [PIPELINE, CONFIG, f"scheduler/{SCHEDULER}", SCHEDULER]
PIPELINE_SETTINGS += [f"{part}/{CONFIG}" for part in PARTS]
"""The files of a pipeline to fetch first: they say what it is, and whether it can be used."""
EMBEDDED = Path(__file__).parents[1] / "pretrained"


def embedded_models(*places: Path) -> list[str]:
    """Names of the models embedded in the package, and of those in `places`."""
    return sorted({file.parent.name for place in (*places, EMBEDDED) for file in place.glob(f"*/{CONFIG}")})


def published_model(name: str | Path) -> PublishedModel | None:
    """The published model of that name; None for another name, and where a folder of that name holds a model.

    A folder without one, such as `glide` in a clone of this project, does not hide the published model.
    """
    model = MODELS.get(str(name))
    return None if model is None or _holds_model(Path(name)) else model


def _holds_model(path: Path) -> bool:
    return (path / CONFIG).exists() or (path / PIPELINE).exists()


def resolve(
    name: str | Path,
    *places: Path,
    files: Sequence[str] = HUB_FILES,
    published: PublishedKind | None = DIFFUSION,
) -> Path:
    """The path of a model's files: a model folder, or one published OpenAI `.pt` file.

    name: a folder, the name of an embedded or a published model, a `.pt` file, a `.zip` of a folder, or a hub id
    "org/name"; tried in this order, and unpacked or downloaded if needed. places: folders with further embedded models,
    which are searched first. files: patterns of those that are fetched from the hub. published: the kind of published
    models that is expected; None for a kind of which none are published.
    InputError if it is none of them, with the nearest name as a suggestion.
    """
    path, text = Path(name), str(name)
    embedded = embedded_models(*places)
    try:
        path.exists()
    except (OSError, ValueError) as error:  # a name too long or with a zero byte, a folder without permission
        raise InputError(
            f"there is no model {shown_number(text)} ({one_line(error)[:80]}): check the name"
        ) from error
    if path.is_dir() and (_holds_model(path) or text not in (*embedded, *(MODELS if published else ()))):
        return path
    if text in embedded:
        return next(place / text for place in (*places, EMBEDDED) if (place / text / CONFIG).exists())
    if published is not None and text in MODELS:
        return published_folder(MODELS[text], published)
    if path.suffix == ".pt" and path.is_file():
        return path
    if is_zip(path):
        return unpacked(path)
    if path.is_file():
        raise InputError(
            f"{name} is a file: give the model's folder, a .zip of it, or a published OpenAI .pt file"
        )
    if HUB_ID.fullmatch(text) and path.suffix not in (".pt", ".zip"):
        return hub_folder(text, list(files))
    raise InputError(_unknown(text, embedded, published))


def _unknown(text: str, embedded: Sequence[str], published: PublishedKind | None) -> str:
    """The sentence for a name that nothing has."""
    of_kind = [name for name, model in MODELS.items() if published and model.kind == published.kind]
    if text.endswith(".zip"):
        return f"there is no file {text}: check the path"
    if text.endswith(".pt"):
        name = name_of_file(Path(text).name)
        return f"there is no file {text}: check the path" + (
            f", or give {name}, which fetches it" if name else ""
        )
    near = difflib.get_close_matches(text, [*embedded, *of_kind], n=1)
    known = f"embedded models: {', '.join(embedded) or 'none'}"
    if of_kind and not (near and near[0] in embedded):
        known += f"; published ones: {', '.join(of_kind)}"
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else "give a folder, a .pt file, a hub id (org/name) or one of these"
    )
    return f"there is no model {text!r}; {known}: {hint}"


def model_place(name: str | Path, *places: Path) -> Path:
    """The path of a diffusion model's files, as `resolve`; of a pipeline of diffusers on the hub, of its settings.

    These say what else has to be fetched. InputError as `resolve`.
    """
    text = str(name)
    if not HUB_ID.fullmatch(text) or text.endswith((".pt", ".zip")):
        return resolve(name, *places)
    path = resolve(name, *places, files=PIPELINE_SETTINGS)
    if Path(name).exists() or (path / PIPELINE).is_file():
        return path
    _check_model(path, text)
    commit = commit_of(path)
    return resolve(f"{text.partition('@')[0]}@{commit}" if commit else name, *places)


def _check_model(path: Path, name: str) -> None:
    """InputError for a repository of the hub without a diffusion model, before its weights are fetched."""
    held = "no config.json"
    if (path / CONFIG).is_file():
        record = read_table(path / CONFIG, max_bytes=MAX_CONFIG)
        kind = record.get("kind")
        if kind == "diffusion" and "format" in record:
            return
        held = f"the config.json of {shown_number(kind or record.get('model_type') or 'something else')}"
    raise InputError(
        f"got {name} of the hub, which holds {held}, expected a diffusion model of this toolkit, or a pipeline of "
        "diffusers with its model_index.json: check the name"
    )
