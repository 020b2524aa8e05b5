"""Labelled pictures: class folders, or built-in scenes whose shape or colour is the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from glide.data.datasets import Batch, Dataset, GeneratedData, open_data
from glide.data.targets import Target
from glide.shapes.dataset import Shapes
from glide.shapes.scene import COLORS, SHAPES
from glide.utils.errors import InputError

TARGETS: dict[str, tuple[str, ...]] = {"shape": SHAPES, "color": tuple(COLORS)}


LABEL_SALT = 0x1ABE  # separates these random numbers from all others of the same (seed, step)


class LabelledShapes(GeneratedData):
    """Scenes labelled by the `target` of a thing in them, chosen at random where things differ.

    So p(y | x) is the share of the scene's things of class y; it is highest where all of them are. InputError for
    another target.
    """

    def __init__(self, shapes: Shapes, target: Target, channels: int = 3) -> None:
        super().__init__(shapes, channels)
        if target not in TARGETS:
            raise InputError(
                f"got the target {target!r}, expected {' or '.join(TARGETS)}: choose one of these"
            )
        self.target = target
        self.class_names: Sequence[str] = TARGETS[target]

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        """{"image": uint8 [size, C, H, W], "y": int64 [size]}, or these rows of it."""
        rng = np.random.default_rng(np.random.SeedSequence(self.shapes.seed, spawn_key=(LABEL_SALT, step)))
        scenes, shares = self.shapes.scenes(step, size), rng.random(size)
        chosen = [
            scene.things[int(share * len(scene.things))] for scene, share in zip(scenes, shares, strict=True)
        ]
        labels = [self.class_names.index(getattr(thing, self.target)) for thing in chosen]
        y = torch.tensor(labels if rows is None else labels[rows.start : rows.stop])
        return {"image": super().batch(step, size, rows)["image"], "y": y}

    def captions_for_tokenizer(self) -> list[str]:
        return []


def open_labelled(spec: str, image_size: int, target: Target = "shape", **options: Any) -> Dataset:
    """The data set of a `--data` argument, with at least two classes and a "y" in every batch.

    spec, image_size, options: as for `glide.data.datasets.open_data`. target: the property that is the class of a
    built-in scene. InputError as `open_data`, and for data with fewer than two classes.
    """
    data = open_data(spec, image_size, **options)
    if isinstance(data, GeneratedData):
        return LabelledShapes(data.shapes, target, data.channels)
    if len(data.class_names) < 2:
        found = "only one class" if data.class_names else "captions"
        raise InputError(
            f"{spec} has {found}, expected pictures of at least two classes: give a folder with a folder for each "
            "class, or shapes:one"
        )
    return data
