"""Measure a base model in training: the pictures that it draws of held-out captions, judged as after the training.

Built-in scenes are judged by the oracle. Other pictures are compared with real ones in the features of a network, those
of the real ones being extracted once, before the first step.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glide.checkpoints.image_encoders import find_image_encoder
from glide.data.datasets import Batch, Dataset, GeneratedData, on_device
from glide.data.stored_dataset import StoredData
from glide.diffusion.samplers.registry import DEFAULT_STEPS, OWN
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.networks.picture_conditions import conditions_named
from glide.networks.picture_sizes import default_size
from glide.shapes.oracle import Oracle
from glide.shapes.scene import Scene
from glide.training.train_base_flags import TrainBase
from glide.utils.channels import on_white
from glide.utils.errors import InputError
from glide.utils.images import to_uint8
from glide.utils.memory import check_memory
from glide.utils.picture_size import size_text
from toolkit.evaluation.bootstrap import Estimate, line_of, mean_of, share_of
from toolkit.evaluation.comparison import Sets, compare
from toolkit.evaluation.extraction import Extracted, extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features, features_named
from toolkit.evaluation.memorisation import FEWEST, memorisation
from toolkit.evaluation.oracle_run import drawn_requests
from toolkit.evaluation.picture_sets import PictureArray, PictureSet, open_pictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps
from toolkit.pipelines.training_preview import conditions_of

DEFAULT_JUDGE = "efficientnet-lite0"
REAL = 1024
"""Real pictures, at most: of more than features are wide, a Fréchet distance takes seconds for each resample."""
RESAMPLES = 50
AT_ONCE = 32
Pixels = NDArray[np.uint8]


@dataclass
class Asked:
    """The N pictures to draw, with the captions of the data, and the scenes where these are built in."""

    requests: list[ImageRequest] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    scenes: list[Scene] = field(default_factory=list)
    class_names: Sequence[str] = ()


class Drawn(PictureArray):
    """Drawn pictures in memory, with the captions and classes that they were drawn of."""

    def __init__(self, pixels: Pixels, asked: Asked) -> None:
        super().__init__("the drawn pictures", pixels, asked.captions if any(asked.captions) else None)
        self.class_names, self._asked = asked.class_names, asked

    def label(self, place: int) -> int | None:
        return self._asked.requests[place].label


Judge = Callable[[Pixels], dict[str, float]]
"""Pictures uint8 [N,H,W,C] -> their figures for a line of evaluation.jsonl."""


def training_evaluation(args: TrainBase, model: Model, data: Dataset) -> Callable[[Model], dict[str, float]]:
    """Measures a model in training by the pictures that it draws of `data`, with the default guidance and steps.

    InputError, before the first step, for a judge that is not there, and for data or a model that it cannot judge.
    """
    config = model.config
    needed = args.evaluate_pictures * math.prod(default_size(config)) * config.picture_channels
    check_memory(5 * needed, f"--evaluate-pictures {args.evaluate_pictures}", "lower it, 256 is usual")
    judge: Judge
    if isinstance(data, GeneratedData) and args.judge is None:
        _check_oracle(config)
        asked = asked_of(config, data, args.evaluate_pictures, args.train.seed)
        judge = OracleJudge(asked.scenes)
    else:
        features = features_named(args.judge or DEFAULT_JUDGE, model.device)
        asked = asked_of(config, data, args.evaluate_pictures, args.train.seed)
        # a dry run writes and measures nothing
        judge = _unused if args.train.dry_run else FeatureJudge.of(args, config, data, features, asked)

    def evaluate(model: Model) -> dict[str, float]:
        return judge(draw(model, asked))

    return evaluate


def _unused(pixels: Pixels) -> dict[str, float]:
    raise AssertionError("a dry run evaluates nothing")


def _check_oracle(config: ModelConfig) -> None:
    if config.reads_captions and config.picture_channels == 3:
        return
    what = "that reads no captions" if not config.reads_captions else f"of {config.picture_channels} channels"
    raise InputError(
        f"got --evaluate-every for a model of scenes {what}, which the oracle cannot judge, expected a network: "
        f"give --judge {DEFAULT_JUDGE}, or leave it out"
    )


def batches_of(data: Dataset, count: int) -> Iterator[Batch]:
    """The first `count` pictures of a data set in batches, as `Dataset.batch` gives them; of fewer, all of them."""
    if isinstance(data, StoredData):
        count = min(count, len(data))
    size = min(AT_ONCE, count)
    while size > 1 and not _has(data, size):
        size //= 2
    for start in range(0, count, size):
        batch = data.batch(start // size, size)
        yield {key: part[: count - start] for key, part in batch.items()}


def _has(data: Dataset, size: int) -> bool:
    try:
        data.check_batch(size)
    except InputError:
        return False
    return True


def asked_of(config: ModelConfig, data: Dataset, count: int, seed: int) -> Asked:
    """One picture of each caption or class of the data, `count` in all, picture i with the seed `seed + i`.

    Where the model is conditioned on pictures, it gets those of the data; of their embeddings it draws without a
    caption, as progress pictures are drawn. InputError for data without the captions or classes that it draws.
    """
    found = Asked(class_names=config.class_names)
    kinds = conditions_named(config.conditions)
    encoder = None if config.image_encoder is None else find_image_encoder(config.image_encoder)
    for step, batch in enumerate(batches_of(data, count)):
        n, row = len(batch["image"]), len(found.requests)
        captions, labels = batch.get("caption", [""] * n), batch["y"].tolist() if "y" in batch else [None] * n
        _check_annotated(config, any(captions), labels)
        given = [KnownPixels(conditions=one) for one in conditions_of(batch, kinds)]
        if encoder is not None:
            embeddings = encoder.encode(on_device(batch, "cpu")["image"])
            given = [
                KnownPixels(conditions=one.conditions, embedding=z)
                for one, z in zip(given, embeddings, strict=True)
            ]
        reads = config.reads_captions and encoder is None
        found.requests += [
            ImageRequest(
                seed + row + i,
                captions[i] if reads else "",
                labels[i] if config.num_classes else None,
                given[i],
            )
            for i in range(n)
        ]
        found.captions += captions
        if isinstance(data, GeneratedData):
            found.scenes += data.shapes.scenes(step, n)
    whole = len(found.requests)  # of few pictures, each is drawn several times
    for i in range(whole, count):
        found.requests.append(_with_seed(found.requests[i % whole], seed + i))
        found.captions.append(found.captions[i % whole])
    return found


def _with_seed(request: ImageRequest, seed: int) -> ImageRequest:
    return ImageRequest(seed, request.caption, request.label, request.given)


def _check_annotated(config: ModelConfig, captioned: bool, labels: Sequence[int | None]) -> None:
    missing = "captions" if config.reads_captions and not captioned else ""
    if config.num_classes and None in labels:
        missing = "classes"
    if missing:
        raise InputError(
            f"got --evaluate-every with data without {missing}, expected those that the model draws: give others, or "
            "leave it out"
        )


def draw(model: Model, asked: Asked, scale: float | None = None) -> Pixels:
    """The pictures, uint8 [N,H,W,C], by a copy of the model, with the default steps and guidance, or with `scale`."""
    # a copy: drawing freezes its weights, and rounds them
    pipe = Pipeline(copy.deepcopy(model), owned=True)
    guided = pipe.conditioner.has_null and model.config.image_encoder is None
    steps = spec_of_steps(DEFAULT_STEPS) if model.config.student is None else OWN
    settings = SamplingConfig(OWN, steps, guidance="cfg" if guided else "none", scale=scale)
    found: Pixels = to_uint8(drawn_requests(pipe, settings, asked.requests, AT_ONCE)).numpy()
    return found


@dataclass(frozen=True)
class OracleJudge:
    """The share of captions that are drawn right, and of their facts, by the oracle."""

    scenes: Sequence[Scene]

    def __call__(self, pixels: Pixels) -> dict[str, float]:
        oracle = Oracle()
        right: dict[str, list[bool]] = {}
        facts = []
        for picture, scene in zip(pixels, self.scenes, strict=True):
            judgement = oracle.judge(picture, scene.facts)
            right.setdefault(scene.kind, []).append(judgement.all_right)
            facts.append(float(np.mean([ok for _, ok in judgement.verdicts])))
        every = [one for part in right.values() for one in part]
        found = {
            "captions_right": share_of(sum(every), len(every)),
            "facts_right": mean_of(np.array(facts), RESAMPLES),
        }
        if len(right) > 1:
            found |= {
                f"captions_right_{kind}": share_of(sum(part), len(part))
                for kind, part in sorted(right.items())
            }
        return line_of(found)


@dataclass(frozen=True, eq=False)
class FeatureJudge:
    """Real pictures whose features are extracted once, and all that drawn ones are compared by."""

    sets: PictureSet
    features: Features
    data: Extracted
    held_out: Extracted | None
    real: dict[str, Estimate]
    """The figures of held-out pictures."""
    asked: Asked
    seed: int

    @classmethod
    def of(
        cls, args: TrainBase, config: ModelConfig, data: Dataset, features: Features, asked: Asked
    ) -> FeatureJudge:
        """Extract the features of the real pictures, or find them in the cache."""
        cache = FeatureCache(Path(os.environ.get("GLIDE_CACHE") or args.out) / "features", features)
        pictures, new = _real_sets(args, config, data)
        seed = args.train.seed
        found = extract(pictures, features, cache, mixed=True)
        held_out = None if new is None else extract(new, features, cache, mixed=True)
        real: dict[str, Estimate] = {}
        if new is not None and held_out is not None:
            result = compare(Sets(new, pictures), features, held_out, found, None, RESAMPLES, seed)
            real = {one.name: one.generated for one in result.figures}
        return cls(pictures, features, found, held_out, real, asked, seed)

    def __call__(self, pixels: Pixels) -> dict[str, float]:
        drawn = Drawn(in_rgb(pixels), self.asked)
        found = extract(drawn, self.features)
        result = compare(Sets(drawn, self.sets), self.features, found, self.data, None, RESAMPLES, self.seed)
        figures = {one.name: one.generated for one in result.figures}
        new = self.held_out
        if new is not None and len(new) >= FEWEST:
            copies = memorisation(found.features, self.data.features, new.features, 1, RESAMPLES, self.seed)
            figures["memorised"] = copies.near
        return line_of(figures, self.real)


def _real_sets(args: TrainBase, config: ModelConfig, data: Dataset) -> tuple[PictureSet, PictureSet | None]:
    """The pictures of the training, at most REAL, and held-out ones where there are any, as many as are drawn.

    Of another package, or in other channels than RGB, they are those of `data` alone.
    """
    size, seed, share = default_size(config), args.train.seed, args.held_out
    if config.picture_channels != 3 or not isinstance(data, StoredData | GeneratedData):
        check_memory(
            REAL * 3 * math.prod(size), f"{REAL} pictures of {size_text(size)}", "leave out --evaluate-every"
        )
        parts = [
            batch["image"].permute(0, 2, 3, 1).contiguous().numpy().copy() for batch in batches_of(data, REAL)
        ]
        return PictureArray(args.data, in_rgb(np.concatenate(parts))), None
    split = isinstance(data, GeneratedData) or share > 0
    chosen: dict[str, Any] = {"share": share, "seed": seed, "size": size}
    pictures = open_pictures(args.data, split="train" if split else None, count=REAL, **chosen)
    if not split:
        return pictures, None
    # as many as are drawn: distances of fewer pictures are larger
    return pictures, open_pictures(args.data, split="held_out", count=args.evaluate_pictures, **chosen)


def in_rgb(pixels: Pixels) -> Pixels:
    """uint8 [N,H,W,C] of 1, 3 or 4 channels -> [N,H,W,3], with transparency on white."""
    if pixels.shape[-1] == 3:
        return pixels
    pictures = [Image.fromarray(one.squeeze(-1) if one.shape[-1] == 1 else one) for one in pixels]
    return np.stack([np.asarray(on_white(one)) for one in pictures])
