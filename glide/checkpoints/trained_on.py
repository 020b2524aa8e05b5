"""The data that a model was trained on, as its folder records it."""

from __future__ import annotations

import re
from pathlib import Path

from glide.checkpoints.diffusers_pipelines import is_pipeline
from glide.checkpoints.load import read_config
from glide.checkpoints.names import model_place
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote

DATA_FLAG = re.compile(r"--data[ =](\S+)")


def trained_on(name: str | Path) -> str | None:
    """The `--data` of the model's training; None if it is not recorded. Names and errors as `load_model`."""
    if is_remote(name) or (path := model_place(name)).is_file() or is_pipeline(path):
        return "a published training"
    training = read_config(path)["training"]
    if not isinstance(training, dict):
        return None
    if "converted" in training:
        return "a published training"
    if isinstance(data := training.get("data"), str):
        return data
    match = DATA_FLAG.search(str(training.get("command", "")))  # of the embedded models
    return match[1] if match else None


def check_built_in_scenes(name: str | Path) -> None:
    """InputError for a model that was trained on other pictures than the built-in scenes.

    It does not know the captions of the scenes, so the oracle would judge all of its pictures wrong. A model whose
    folder records no data is accepted.
    """
    data = trained_on(name)
    if data is None or data == "shapes" or data.startswith("shapes:"):
        return
    raise InputError(
        f"got the model {name}, which was trained on {data}, expected one of the built-in scenes: only their captions "
        "can be asked and judged here; for your own pictures use scripts/evaluate_images.py, --data of the sweeps, or "
        "scripts/nll.py"
    )
