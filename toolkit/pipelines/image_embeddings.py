"""Embeddings of pictures that a drawing is conditioned on: of given pictures, or drawn by a prior from captions.

Variations of a picture, and pictures of captions by way of their embeddings (DALL-E 2, 2204.06125, section 3.1).

Shape letters: N pictures, E embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.image_encoders import find_image_encoder
from glide.checkpoints.priors import load_prior
from glide.checkpoints.provenance import fingerprint
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.prior import Prior
from glide.utils.errors import InputError, warn
from toolkit.pipelines.image_arguments import read_pictures
from toolkit.pipelines.image_to_image import init_image_of
from toolkit.pipelines.prior import DEFAULT_SCALE, sample_embeddings


@dataclass(frozen=True, eq=False)
class GivenEmbedding:
    """The embedding of a picture, and where it comes from."""

    embedding: Tensor  # [E]
    entries: Mapping[str, Any]
    """Of a picture's recipe, JSON-able."""


def embeddings_of_pictures(value: object, model: Model, argument: str) -> list[GivenEmbedding]:
    """The embeddings of given pictures: paths, PIL pictures, arrays or tensors, one or several.

    Each is encoded alone, by its middle square at the model's size, as in training. argument: its name in messages.
    InputError for a model that is conditioned on no embedding, what is no picture, and an encoder that is not there.
    """
    encoder = find_image_encoder(_encoder_config(model, argument))
    found = []
    for one in read_pictures(value, argument):
        width, height = one.picture.size
        if abs(width - height) > 1:
            warn(f"{one.path or argument} is {width}x{height}: its middle square is encoded", stacklevel=2)
        image = init_image_of(one.picture, model)[None].to(model.device)
        entries = ({"like_image": one.path} if one.path else {}) | {"like_image_sha256": one.sha256}
        found.append(GivenEmbedding(encoder.encode(image)[0].cpu(), entries))
    return found


def embeddings_by_prior(
    prior: str | Path | Prior, pictures: Sequence[ImageRequest], model: Model, scale: float | None = None
) -> list[GivenEmbedding]:
    """An embedding for each of N requests, drawn from its caption with its seed.

    prior: by name, or loaded. scale: of classifier-free guidance in it; None is the default. InputError for a model
    that is conditioned on no embedding, or on those of another encoder, and for an empty caption.
    """
    scale = DEFAULT_SCALE if scale is None else scale
    config = _encoder_config(model, "the prior")
    name = "the prior" if isinstance(prior, Prior) else str(prior)
    loaded = prior if isinstance(prior, Prior) else load_prior(prior, model.device)
    theirs = loaded.config.image_encoder
    if theirs.fingerprint != config.fingerprint:
        raise InputError(
            f"got the prior {name} of the embeddings of {theirs.name} ({theirs.fingerprint}), expected those of "
            f"{config.name} ({config.fingerprint}), which the model is conditioned on: give another"
        )
    if not all(picture.caption for picture in pictures):
        raise InputError(f"got an empty caption for the prior {name}, expected words: describe the picture")
    drawn = sample_embeddings(
        loaded, [picture.caption for picture in pictures], [picture.seed for picture in pictures], scale=scale
    ).cpu()
    entries: dict[str, Any] = {"prior": name} if not isinstance(prior, Prior) else {"made_by": "Python"}
    entries |= {"prior_weights": fingerprint(loaded)}
    entries |= {"prior_scale": scale} if scale != DEFAULT_SCALE else {}
    return [
        GivenEmbedding(embedding, {**entries, "prompt": picture.caption})
        for embedding, picture in zip(drawn, pictures, strict=True)
    ]


def with_embeddings(
    pictures: Sequence[ImageRequest], given: Sequence[GivenEmbedding], model: Model
) -> list[ImageRequest]:
    """N requests with their embeddings: one for all, or one for each `N / len(given)` in their order.

    A model without captions of its own does not receive those of a prior. InputError for a number that does not fit.
    """
    if not given:
        return list(pictures)
    if len(pictures) % len(given):
        raise InputError(
            f"got {len(given)} pictures to vary for {len(pictures)} to draw, expected one, or one for each prompt: "
            "give as many"
        )
    each = len(pictures) // len(given)
    found = []
    for i, picture in enumerate(pictures):
        of = given[i // each]
        caption = picture.caption if model.config.reads_captions or "prompt" not in of.entries else ""
        found.append(replace(picture, caption=caption, given=replace(picture.given, embedding=of.embedding)))
    return found


def entries_of(given: Sequence[GivenEmbedding], count: int) -> list[dict[str, Any]]:
    """The entries of N = count recipes, in the order of `with_embeddings`."""
    each = count // max(len(given), 1)
    return [dict(given[i // each].entries) if given else {} for i in range(count)]


def check_embeddings(given: Sequence[GivenEmbedding], recipe: Mapping[str, Any], file: str) -> None:
    """InputError where the recipe, of the picture in `file`, names this picture or prior, but it was another then."""
    for name, mark in (("like_image", "like_image_sha256"), ("prior", "prior_weights")):
        for one in given:
            path = one.entries.get(name)
            if path is not None and recipe.get(name) == path and recipe.get(mark) != one.entries[mark]:
                raise InputError(
                    f"got {path}, which is not the one any more that {file} was drawn by, expected that one: give it "
                    f"by --{name.replace('_', '-')}"
                )


def given_embedding(value: object, model: Model) -> list[GivenEmbedding]:
    """Embeddings that are given as numbers, a tensor [E] or [N,E]. InputError for another shape or numbers."""
    width = _encoder_config(model, "image_embedding").width
    if not isinstance(value, Tensor) or value.ndim not in (1, 2) or value.shape[-1] != width:
        came = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"got image_embedding {came}, expected a tensor [{width}] or [N,{width}]: encode pictures by the model's "
            "image encoder"
        )
    rows = value.detach().float().cpu().reshape(-1, width)
    if not bool(torch.isfinite(rows).all()):
        raise InputError("got an image_embedding that is not finite, expected finite numbers: make it again")
    return [GivenEmbedding(row, {"made_by": "Python, from an image_embedding"}) for row in rows]


def read_embeddings(
    like_image: object,
    image_embedding: object,
    prior: str | Path | Prior | None,
    pictures: Sequence[ImageRequest],
    model: Model,
) -> list[GivenEmbedding]:
    """The embeddings of a call in Python, of N requests. InputError for more than one way to give them."""
    if sum(one is not None for one in (like_image, image_embedding, prior)) > 1:
        raise InputError(
            "got more than one of like_image, image_embedding and prior, expected one: leave the others out"
        )
    if like_image is not None:
        return embeddings_of_pictures(like_image, model, "like_image")
    if image_embedding is not None:
        return given_embedding(image_embedding, model)
    return [] if prior is None else embeddings_by_prior(prior, pictures, model)


def _encoder_config(model: Model, argument: str) -> ImageEncoderConfig:
    if model.config.image_encoder is None:
        raise InputError(
            f"got {argument} for a model that is conditioned on no image embedding, expected one that train_base.py "
            "trained with --image-encoder: leave it out"
        )
    return model.config.image_encoder
