"""Measure a model of few pictures: captions drawn recognisably, pictures learned by heart, distance to new ones.

A caption counts as drawn recognisably where, of all real pictures, the nearest to the drawn one in the features of a
network has that caption. Of classes, the nearest picture's class counts. Real pictures have the size that the model
draws.

Pictures learned by heart are looked for in two spaces: in the features, which see first of all that a drawn picture is
softer than a true one, and in the colours of a grid of 16 by 16 cells, which do not see that.

Shape letters: N drawn pictures, M training pictures, H held-out ones, H W pixels.
"""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from glide.data.datasets import Dataset
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from toolkit.evaluation.bootstrap import Estimate, line_of, share_of
from toolkit.evaluation.extraction import Extracted, extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features, features_named
from toolkit.evaluation.memorisation import FEWEST, Memorisation, memorisation
from toolkit.evaluation.mmd import cubic, mmd2_estimate
from toolkit.evaluation.nearest_neighbors import nearest
from toolkit.evaluation.picture_sets import PictureArray, PictureSet, open_pictures
from toolkit.evaluation.training_evaluation import DEFAULT_JUDGE, RESAMPLES, Asked, draw

MOST = 5000
"""Real pictures at most, chosen by the seed."""
GRID = 16
"""Cells of a row, whose colours are compared."""
SCALE = 1.5
"""Classifier-free guidance: of few pictures a model is sure of its captions, and more makes colours glaring."""
Pixels = NDArray[np.uint8]
Subject = tuple[str, int | None]
"""A caption and a class."""


@dataclass(frozen=True, eq=False)
class Part:
    """Real pictures whose features are extracted, with what each is a picture of."""

    pictures: PictureSet
    found: Extracted
    concepts: list[str]
    """Of each row: the caption without case and punctuation, the class, or an empty text."""
    subjects: list[Subject]

    def __len__(self) -> int:
        return len(self.found)

    @cached_property
    def colours(self) -> NDArray[np.float64]:
        """[N,3*GRID*GRID]."""
        return np.stack([colours_of(self.pixels(row)) for row in range(len(self))])

    def pixels(self, row: int) -> Pixels:
        """uint8 [H,W,3]."""
        return self.pictures[self.found.places[row]].pixels()


@dataclass(frozen=True)
class Drawn:
    """Pictures drawn of the captions or classes of real ones, and the nearest real picture of each."""

    pixels: Pixels
    """uint8 [N,H,W,3]."""
    features: NDArray[np.float32]
    rows: list[int]
    """Of the real picture whose caption or class was drawn, in its part."""
    subjects: list[Subject]
    nearest: NDArray[np.int64]
    """[N], rows of the training pictures, then of the held-out ones."""
    right: NDArray[np.bool_]
    """[N]. Empty where the model draws neither captions nor classes."""
    copies: Memorisation
    """In the features."""
    soft_copies: Memorisation
    """In the colours of a grid."""

    @property
    def copied(self) -> list[int]:
        """Pictures that are nearer to a training picture, in either space, than 95% of new ones are; the nearest in
        colours first."""
        near = [one.distances[:, 0] < one.limit for one in (self.copies, self.soft_copies)]
        order = np.argsort(self.soft_copies.distances[:, 0], kind="stable").tolist()
        return [i for i in order if near[0][i] or near[1][i]]


@dataclass
class Measured:
    """All that is measured of one model."""

    trained: Drawn
    """Of captions, or classes, of training pictures."""
    new: Drawn | None
    """Of held-out ones."""
    figures: dict[str, Estimate] = field(default_factory=dict)
    real: dict[str, Estimate] = field(default_factory=dict)
    """Of held-out pictures, where a figure has one."""


class OwnPictures:
    """The real pictures of a training, whose features are extracted once."""

    def __init__(
        self, data: str, config: ModelConfig, features: Features, share: float, seed: int, cache: Path | None
    ) -> None:
        """share: of the pictures that are held out. InputError for pictures that cannot be measured."""
        self.config, self.features, self.seed = config, features, seed
        kept = None if cache is None else FeatureCache(cache / "features", features)

        def part(split: str | None) -> Part:
            pictures = open_pictures(
                data,
                split=split,  # type: ignore[arg-type]
                share=share,
                count=MOST,
                seed=seed,
                size=config.picture_size,
            )
            found = extract(pictures, features, kept, mixed=True)
            named = [_subject(pictures, place, config) for place in found.places]
            rows = [row for row, one in enumerate(named) if one is not None]
            found = replace(found, features=found.features[rows], places=[found.places[row] for row in rows])
            subjects = [one for one in named if one is not None]
            return Part(pictures, found, [_concept(one) for one in subjects], subjects)

        self.training = part("train" if share else None)
        held_out = part("held_out") if share else None
        self.held_out = held_out if held_out is not None and len(held_out) >= FEWEST else None

    @property
    def real(self) -> int:
        """Number of real pictures that can be nearest."""
        return len(self.training) + (0 if self.held_out is None else len(self.held_out))

    @property
    def names(self) -> bool:
        """True for a model that draws captions or classes."""
        return self.config.reads_captions or self.config.num_classes > 0

    def judge_itself(self, count: int) -> Estimate:
        """The share of true training pictures that the judge recognises after they were scaled to half and back."""
        rows = _spread(len(self.training), count, self.seed)
        small = np.stack([_blurred(self.training.pixels(row)) for row in rows])
        features = extract(PictureArray("blurred pictures", small), self.features).features
        return share_of(int(self._right(features, self.training, rows)[1].sum()), len(rows))

    def measure(self, model: Model, count: int) -> Measured:
        """Draw `count` pictures of training captions and as many of held-out ones, and measure them."""
        trained = self._drawn(model, self.training, count, 0)
        new = None if self.held_out is None else self._drawn(model, self.held_out, count, len(trained.rows))
        found = Measured(trained, new)
        if self.names:
            found.figures["captions_right"] = _share(trained.right)
            if new is not None:
                found.figures["captions_right_new"] = _share(new.right)
        found.figures["memorised"] = trained.copies.near
        found.figures["memorised_colours"] = trained.soft_copies.near
        if new is not None and self.held_out is not None:
            found.figures["memorised_new"] = new.copies.near
            found.figures["memorised_colours_new"] = new.soft_copies.near
            found.figures["held_out_distance"] = self._distance(new.features, self.held_out)
            found.real["held_out_distance"] = self._distance(self.training.found.features, self.held_out)
        else:
            found.figures["training_distance"] = self._distance(trained.features, self.training)
        return found

    def _distance(self, features: NDArray[np.float32], real: Part) -> Estimate:
        return mmd2_estimate(features, real.found.features, cubic, True, RESAMPLES, self.seed)

    def _drawn(self, model: Model, part: Part, count: int, first: int) -> Drawn:
        rows = _spread(len(part), count, self.seed)
        subjects = [part.subjects[row] for row in rows]
        asked = Asked(
            [ImageRequest(self.seed + first + i, *one) for i, one in enumerate(subjects)],
            [caption for caption, _ in subjects],
            class_names=self.config.class_names,
        )
        pixels = draw(model, asked, SCALE)
        features = extract(PictureArray("drawn pictures", pixels), self.features).features
        near, right = self._right(features, part, rows)
        new = self.held_out
        copies = memorisation(
            features,
            self.training.found.features,
            None if new is None else new.found.features,
            1,
            RESAMPLES,
            self.seed,
        )
        colours = np.stack([colours_of(one) for one in pixels])
        soft = memorisation(
            colours, self.training.colours, None if new is None else new.colours, 1, RESAMPLES, self.seed
        )
        return Drawn(pixels, features, rows, subjects, near, right, copies, soft)

    def _right(
        self, features: NDArray[np.float32], part: Part, rows: Sequence[int]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The nearest real picture of each, and whether it shows what was asked for."""
        every, concepts = self.training.found.features, list(self.training.concepts)
        if self.held_out is not None:
            every = np.concatenate([every, self.held_out.found.features])
            concepts += self.held_out.concepts
        near = nearest(features.astype(np.float64), every.astype(np.float64))[1][:, 0]
        if not self.names:
            return near, np.zeros(0, np.bool_)
        wanted = [part.concepts[row] for row in rows]
        return near, np.array([concepts[at] == own for at, own in zip(near.tolist(), wanted, strict=True)])


def own_pictures_evaluation(
    count: int,
) -> Callable[[TrainBase, Model, Dataset], Callable[[Model], Mapping[str, float]]]:
    """An `Evaluation` of `train_base`: the figures of `OwnPictures.measure` for each line of evaluation.jsonl."""

    def evaluation(args: TrainBase, model: Model, data: Dataset) -> Callable[[Model], Mapping[str, float]]:
        features = features_named(args.judge or DEFAULT_JUDGE, model.device)
        cache = Path(os.environ.get("GLIDE_CACHE") or args.out)
        own = OwnPictures(args.data, model.config, features, args.held_out, args.train.seed, cache)

        def evaluate(model: Model) -> Mapping[str, float]:
            found = own.measure(model, count)
            return line_of(found.figures, found.real)

        return evaluate

    return evaluation


def _subject(pictures: PictureSet, place: int, config: ModelConfig) -> Subject | None:
    """None for a picture without the caption or the class that the model draws, which a training skips."""
    if config.reads_captions:
        try:
            caption = pictures.caption(place)
        except InputError:
            return None
        return None if caption is None else (caption, None)
    if not config.num_classes:
        return "", None
    label = pictures.label(place)
    return None if label is None else ("", label)


def _concept(subject: Subject) -> str:
    caption, label = subject
    plain = caption.casefold().translate(str.maketrans("", "", string.punctuation))
    return " ".join(plain.split()) if label is None else str(label)


def _spread(total: int, count: int, seed: int) -> list[int]:
    """`count` different rows, chosen by the seed; all where there are fewer."""
    order = np.random.default_rng(seed).permutation(total)[:count]
    return sorted(order.tolist())


def _share(right: NDArray[np.bool_]) -> Estimate:
    return share_of(int(right.sum()), len(right))


def colours_of(pixels: Pixels) -> NDArray[np.float64]:
    """The mean colours of GRID by GRID cells, from 0 to 1: uint8 [H,W,3] -> [3*GRID*GRID]."""
    small = Image.fromarray(pixels).resize((GRID, GRID), Image.Resampling.BOX)
    return np.asarray(small, np.float64).reshape(-1) / 255


def _blurred(pixels: Pixels) -> Pixels:
    """uint8 [H,W,3], scaled to half and back."""
    image = Image.fromarray(pixels)
    small = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.BOX)
    return np.asarray(
        small.resize(image.size, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(0.5))
    )
