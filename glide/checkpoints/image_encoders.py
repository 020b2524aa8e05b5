"""Find frozen image encoders by name: CLIP and DINOv2 of transformers, and further kinds of installed packages."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.state_dicts import check_finite
from glide.checkpoints.transformers_files import (
    CONFIG,
    WEIGHTS,
    check_model_type,
    check_sizes,
    check_weights,
    from_pretrained,
    load_shared,
    weights_digest,
)
from glide.networks.image_encoder import PretrainedImages, TransformersImages
from glide.networks.image_encoder_config import (
    GROUP,
    KINDS,
    MODEL_TYPES,
    ImageEncoderConfig,
    read_name,
)
from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID, commit_of, hub_folder
from glide.utils.json_files import read_table
from glide.utils.numbers import Range

PREPROCESSOR = "preprocessor_config.json"
FILES = [CONFIG, PREPROCESSOR, *WEIGHTS]
"""The files of an encoder on the hub."""


@dataclass(frozen=True)
class _Pictures:
    """Pictures as an encoder was trained on them, where its folder does not say so."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None
    """None: that of its configuration."""


_PICTURES = {
    "clip": _Pictures((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    # its positions are those of 518 pixels, which it interpolates to those of 224
    "dinov2": _Pictures((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 224),
}
_loaded: weakref.WeakValueDictionary[tuple[str, str], PretrainedImages] = weakref.WeakValueDictionary()


def image_encoder_named(name: str) -> tuple[ImageEncoderConfig, PretrainedImages]:
    """The image encoder of that name, and the configuration by which `find_image_encoder` finds it again.

    name: KIND:PLACE or a folder, as `read_name` says. InputError where there is none, or it cannot be read.
    """
    kind, place = read_name(name)
    encoder = load_image_encoder(kind, place)
    folder = Path(place).expanduser()
    local = folder.is_dir()
    config = ImageEncoderConfig(
        kind=kind,
        source=folder.resolve().name if local else place,  # no place of this machine
        path=place if local else "",
        revision=encoder.commit or "",
        fingerprint=encoder.fingerprint,
        width=encoder.width,
    )
    return config, encoder


def find_image_encoder(config: ImageEncoderConfig) -> PretrainedImages:
    """The encoder that a configuration names. InputError where it is not there, or is not the one of training."""
    place = config.path or config.source
    if config.path and not Path(config.path).expanduser().is_dir():
        raise InputError(
            f"got no folder {config.path}, expected the image encoder {config.name} there: put it back"
        )
    if not config.path and config.revision and HUB_ID.fullmatch(place):
        place = f"{place.partition('@')[0]}@{config.revision}"
    encoder = load_image_encoder(config.kind, place)
    check_image_encoder(config, encoder, config.name)
    return encoder


def check_image_encoder(config: ImageEncoderConfig, encoder: PretrainedImages, name: str) -> None:
    """InputError unless the encoder of that name is the one that `config` speaks of."""
    if encoder.width != config.width:
        raise InputError(
            f"got the image encoder {name} {encoder.width} wide, expected {config.name} with {config.width}, which "
            "the model was trained with: give that one"
        )
    if encoder.fingerprint != config.fingerprint:
        raise InputError(
            f"got the image encoder {name} with the fingerprint {encoder.fingerprint}, expected {config.fingerprint} "
            f"({config.name}), which the model was trained with: give that one"
        )


def load_image_encoder(kind: str, place: str) -> PretrainedImages:
    """The image encoder of a kind at a place: a folder, a hub id, or what the kind takes. One in use is shared.

    InputError for an unknown kind or place, and files that are missing, damaged, or of another kind.
    """
    if kind not in KINDS:
        return _of_package(kind, place)
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = hub_folder(place, FILES)
    table = check_model_type(folder, MODEL_TYPES, kind, "image encoder")
    check_sizes(folder, table, "vision_config" if table.get("model_type") == "clip" else "")
    check_weights(folder, "image encoder")
    return load_shared(_loaded, kind, folder, "image encoder", partial(_load, kind, folder))


def _load(kind: str, folder: Path) -> PretrainedImages:
    import transformers

    network_class: Any = {
        "clip": transformers.CLIPVisionModelWithProjection,
        "dinov2": transformers.Dinov2Model,
    }[kind]
    network = from_pretrained(network_class, folder, "image encoder")
    check_finite(network.state_dict())
    c, pictures = network.config, _pictures(kind, folder)
    size = pictures.size or c.image_size
    digest = weights_digest(network)
    digest.update(repr((size, pictures.mean, pictures.std)).encode())
    encoder = TransformersImages(
        network,
        width=c.projection_dim if kind == "clip" else c.hidden_size,
        size=size,
        fingerprint=digest.hexdigest()[:16],
        mean=pictures.mean,
        std=pictures.std,
    )
    encoder.commit = commit_of(folder)
    return encoder


def _pictures(kind: str, folder: Path) -> _Pictures:
    """Size, mean and deviation of an encoder's pictures, by its folder. InputError for numbers that cannot be."""
    usual, path = _PICTURES[kind], folder / PREPROCESSOR
    table = read_table(path) if path.is_file() else {}
    found = {}
    for name, default in (("image_mean", usual.mean), ("image_std", usual.std)):
        values = table.get(name, default)
        if not isinstance(values, list | tuple):
            raise InputError(f"got {name} {values!r} in {path}, expected a list of numbers: fetch it again")
        limit = Range(-100, 100) if name == "image_mean" else Range(1e-6, 100)
        found[name] = tuple(limit.real(value, f"{name} in {path}") for value in values)
    size = table.get("crop_size", usual.size)
    if isinstance(size, dict):
        size = size.get("height", usual.size)
    if kind == "clip":
        size = None  # its positions are of one size
    return _Pictures(
        found["image_mean"],
        found["image_std"],
        None if size is None else Range(1, 16384).whole(size, f"crop_size in {path}"),
    )


def _of_package(kind: str, place: str) -> PretrainedImages:
    """An encoder of another kind, by its entry point. InputError where no installed package has it."""
    entry = plug_ins(GROUP).get(kind)
    if entry is None:
        raise InputError(
            f"got the image encoder {kind}:{place}, expected an installed package that reads {kind}: install it (this "
            "toolkit's own by pip install .)"
        )
    with torch.random.fork_rng(devices=[]):
        encoder = load_plug_in(entry, "image encoder")(place)
    if not isinstance(encoder, PretrainedImages):
        raise InputError(
            f"the image encoder {kind!r} of {entry.value} gave a {type(encoder).__name__}, expected a "
            "glide.networks.image_encoder.PretrainedImages: correct it"
        )
    return encoder
