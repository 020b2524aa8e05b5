"""Model folders of noisy classifiers: written, read by name, and begun with another model's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.fetch_published import PublishedKind
from glide.checkpoints.first_stages import first_stage_of, held_in_folder
from glide.checkpoints.init_from import stem_without_mask
from glide.checkpoints.load import resolve
from glide.checkpoints.model_folder import CONFIG, load_weights, read_config, write_folder
from glide.checkpoints.published import PublishedModel
from glide.networks.model import Model
from glide.utils.config_check import blank
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from guidance.classifier import openai as classifier_openai
from guidance.classifier.config import ClassifierConfig
from guidance.classifier.network import NoisyClassifier
from guidance.compatibility import check_first_stages

KIND = "classifier"


EMBEDDED = Path(__file__).parents[1] / "pretrained"


@torch.no_grad()
def begin_with(classifier: NoisyClassifier, model: Model, name: str) -> None:
    """Give a classifier the down path of a diffusion model, which has learned to see through noise; its pool stays.

    name: the model's, for messages. InputError for a model whose down path is of other sizes, or of other latents.
    """
    try:
        check_first_stages("classifier", classifier.config.first_stage, model.config.first_stage)
    except InputError as error:
        raise InputError(f"--init {name}: {error}") from None
    source = model.unet.state_dict() | {"stem.weight": stem_without_mask(model)}
    for key, to in classifier.encoder.state_dict().items():
        if key not in source or source[key].shape != to.shape:
            found = list(source[key].shape) if key in source else "missing"
            raise InputError(
                f"--init {name}: {key} is {found} there and {list(to.shape)} here, expected a model of "
                "the classifier's sizes: give one of its preset, or leave --init out"
            )
        to.copy_(source[key])


def save_classifier(
    folder: str | Path,
    model: NoisyClassifier,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder that `load_classifier` rebuilds; arguments and errors as
    `glide.checkpoints.load.save_model`.
    """
    write_folder(
        folder,
        KIND,
        model.config.to_dict(),
        model.state_dict(),
        training=training,
        dtype=dtype,
        overwrite=overwrite,
        parts=held_in_folder(model.config.first_stage, model.first_stage),
    )


def _convert_published(
    published: PublishedModel, files: Sequence[Path], vocab: str | None, folder: Path, record: dict[str, Any]
) -> None:
    save_classifier(folder, classifier_openai.load(files[0], published.options), training=record)


PUBLISHED = PublishedKind("classifier", _convert_published)


def load_classifier(name: str | Path, device: str | torch.device = "cpu") -> NoisyClassifier:
    """The noisy classifier of that name, float32, in eval mode.

    name: a folder, an embedded or a published classifier, an OpenAI `.pt` file (local or blobfile's path) or a hub id.
    InputError if there is none of that name, it is another kind of model, or its files are damaged.
    """
    if is_remote(name) or (path := resolve(name, EMBEDDED, published=PUBLISHED)).is_file():
        return classifier_openai.load(name).to(device)
    record = read_config(path, KIND)
    model = blank(lambda: NoisyClassifier(ClassifierConfig.from_dict(record["model"])), f"{path / CONFIG}")
    load_weights(model, path, device)
    if model.config.first_stage is not None:
        model.first_stage = first_stage_of(model.config.first_stage, path)
    return model.eval()
