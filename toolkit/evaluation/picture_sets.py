"""Sets of pictures to be compared: folders, shards, guided-diffusion's batches and built-in scenes, one at a time.

Shape letters: H W pixels.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glide.data.datasets import Split, Stored, is_generated, open_source, split_of
from glide.shapes.dataset import Shapes
from glide.shapes.render import render
from glide.utils.channels import on_white
from glide.utils.errors import InputError
from glide.utils.image_files import decode_picture, open_picture
from glide.utils.images import recipe_in
from glide.utils.picture_size import Size, recorded_size, size_text
from glide.utils.resize import cropped_picture
from toolkit.evaluation.npz_batches import is_npz, read_batch

SCENES = 1000
"""Built-in scenes of a set where no number is given."""


@dataclass(frozen=True)
class Picture:
    """One picture, decoded when its pixels are wanted."""

    name: str
    key: bytes
    """SHA-256 of all that its pixels depend on."""
    width: int
    height: int
    transparent: bool
    pixels: Callable[[], NDArray[np.uint8]]
    """uint8 [H,W,3], with transparency on white. InputError for a broken picture."""


class PictureSet(ABC):
    """Pictures by their place in the set."""

    name: str
    """For messages."""
    class_names: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, place: int) -> Picture:
        """InputError for a picture that cannot be read."""

    @abstractmethod
    def name_of(self, place: int) -> str: ...

    @property
    def broken(self) -> dict[str, str]:
        """Pictures that are known to be unusable without decoding, with the reason."""
        return {}

    def caption(self, place: int) -> str | None:
        """None for a picture without one. InputError for one that cannot be read."""
        return None

    def label(self, place: int) -> int | None:
        """The class of a picture, an index into `class_names`; None for one without."""
        return None


class StoredPictures(PictureSet):
    """Pictures of a folder or of shards. Captions and classes are looked up only where they are wanted."""

    def __init__(
        self,
        spec: str,
        split: Split | None = None,
        share: float = 0.0,
        count: int | None = None,
        seed: int = 0,
        size: Size | None = None,
    ) -> None:
        """split, share: the held-out share of the pictures, or the others. count: at most so many, chosen by seed.
        size: (H, W) to which each picture is cut and scaled, as training does. InputError for data that cannot be
        opened."""
        self.name, self._spec, self._size = spec, spec, size
        source = open_source(spec, unconditional=True)
        self._source: Stored = source if split is None else split_of(source, spec, split, share)
        chosen = np.random.default_rng(seed).permutation(len(self._source))[:count]
        self._places: list[int] = sorted(chosen.tolist())

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Picture:
        index = self._places[place]
        name, data = self.name_of(place), self._source.read(index)
        with open_picture(data, name) as image:
            width, height = image.size
            transparent = image.has_transparency_data
        size = self._size

        def pixels() -> NDArray[np.uint8]:
            picture = on_white(decode_picture(data, name)[0])
            return np.asarray(picture if size is None else cropped_picture(picture, size))

        key = hashlib.sha256(f"file {_words(size)} ".encode() + data).digest()
        width, height = (width, height) if size is None else (size[1], size[0])
        return Picture(name, key, width, height, transparent, pixels)

    def name_of(self, place: int) -> str:
        return self._source.name(self._places[place])

    @property
    def broken(self) -> dict[str, str]:
        return {**self._source.left_out, **self._source.problems}

    @cached_property
    def _annotated(self) -> tuple[Stored, dict[str, int]] | None:
        """The same pictures with their captions or classes, and their places by name; None where there are none."""
        try:
            source = open_source(self._spec)
        except InputError:
            return None
        return source, {source.name(index): index for index in range(len(source))}

    @cached_property
    def class_names(self) -> Sequence[str]:  # type: ignore[override]
        return () if self._annotated is None else self._annotated[0].class_names

    def caption(self, place: int) -> str | None:
        index = self._places[place]
        if self._annotated is None or not self._annotated[0].captioned:
            return _prompt(self._source.read(index), self.name_of(place))
        source, places = self._annotated
        there = places.get(self.name_of(place))
        return None if there is None else source.caption(there)

    def label(self, place: int) -> int | None:
        if self._annotated is None or not self._annotated[0].class_names:
            return None
        source, places = self._annotated
        index = places.get(self.name_of(place))
        return None if index is None else source.label(index)


class PartOfSet(PictureSet):
    """Some of the pictures of a set, by their places in it."""

    def __init__(self, whole: PictureSet, places: Sequence[int]) -> None:
        self.name, self._whole, self._places = whole.name, whole, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Picture:
        return self._whole[self._places[place]]

    def name_of(self, place: int) -> str:
        return self._whole.name_of(self._places[place])


class PictureArray(PictureSet):
    """Pictures uint8 [N,H,W,3] of one array, such as a batch of guided-diffusion, or in memory."""

    def __init__(
        self,
        name: str,
        array: NDArray[np.uint8],
        captions: Sequence[str] | None = None,
        count: int | None = None,
        size: Size | None = None,
    ) -> None:
        self.name, self._array, self._captions, self._size = name, array, captions, size
        self._count = min(len(array), count or len(array))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Picture:
        picture, size = self._array[place], self._size
        height, width, _ = picture.shape

        def pixels() -> NDArray[np.uint8]:
            whole = np.asarray(picture)
            return whole if size is None else np.asarray(cropped_picture(Image.fromarray(whole), size))

        key = hashlib.sha256(f"pixels {_words(size)} {height} {width} ".encode() + picture.tobytes()).digest()
        width, height = (width, height) if size is None else (size[1], size[0])
        return Picture(self.name_of(place), key, width, height, False, pixels)

    def name_of(self, place: int) -> str:
        return f"{Path(self.name).name} {place}"

    def caption(self, place: int) -> str | None:
        return None if self._captions is None else self._captions[place]


class ScenePictures(PictureSet):
    """Built-in scenes, drawn one at a time."""

    def __init__(self, spec: str, split: Split, count: int, seed: int, size: int) -> None:
        self.name, self._size = spec, size
        self._scenes = Shapes.parse_spec(spec, seed, size, split).scenes(0, count)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, place: int) -> Picture:
        scene, size = self._scenes[place], self._size
        key = hashlib.sha256(f"scene {size} {scene!r}".encode()).digest()
        return Picture(self.name_of(place), key, size, size, False, lambda: render([scene], size)[0])

    def name_of(self, place: int) -> str:
        return f"scene {place}: {self._scenes[place].caption}"

    def caption(self, place: int) -> str | None:
        return self._scenes[place].caption


def _words(size: Size | None) -> int | str | None:
    """A size as keys hold it."""
    return None if size is None else recorded_size(size)


def _prompt(data: bytes, name: str) -> str | None:
    """The caption in the recipe of a PNG that this toolkit drew; None of other pictures."""
    try:
        found = recipe_in(data, name).get("prompt")
    except InputError:
        return None
    return found if isinstance(found, str) and found else None


def open_pictures(
    spec: str,
    *,
    split: Split | None = None,
    share: float = 0.0,
    count: int | None = None,
    seed: int = 0,
    size: int | Size | None = None,
) -> PictureSet:
    """The set of pictures of a --data or --generated argument; arguments and errors as of the classes here.

    size: (H, W), or the side of a square. Built-in scenes have a held-out part of their own, and are 64 pixels large
    where no size is given.
    """
    size = (size, size) if isinstance(size, int) else size
    if is_generated(spec):
        height, width = size or (64, 64)
        if height != width:
            raise InputError(
                f"got {size_text((height, width))} for {spec}, expected a square, as scenes are: change it"
            )
        return ScenePictures(spec, split or "train", count or SCENES, seed, height)
    if is_npz(spec):
        if split == "held_out":
            raise InputError(
                f"got {spec} with --held-out, expected a folder or shards, whose pictures have names: give these"
            )
        return PictureArray(spec, read_batch(spec), count=count, size=size)
    return StoredPictures(spec, split, share, count, seed, size)
