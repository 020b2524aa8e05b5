"""Features of a set of pictures, from the cache where they are there, else computed in batches.

Pictures are read and resized by threads while the network works, a bounded number at a time: what grows with the set
is its features alone.

Shape letters: N pictures, S side of a network's pictures, F features, K classes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glide.utils.errors import InputError
from glide.utils.printable import few
from glide.utils.progress import progress
from toolkit.evaluation.clean_resize import clean_resize
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features
from toolkit.evaluation.picture_sets import PictureSet

WORKERS = 4
AHEAD = 2
"""Batches that are read ahead."""
Read = tuple[bytes, tuple[int, int], bool, NDArray[np.float32] | None]
"""Key, (width, height), transparency and, unless its features are there, the resized picture [3,S,S]."""


@dataclass
class Extracted:
    """The features of a set. Rows are pictures, in the set's order, without the broken ones."""

    name: str
    features: NDArray[np.float32]
    """[N,F]."""
    probabilities: NDArray[np.float32] | None
    """[N,K]."""
    places: list[int]
    """Of each row in the set."""
    broken: dict[str, str] = field(default_factory=dict)
    """By name, with the reason."""
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    """Number of pictures by (width, height)."""
    computed: int = 0
    """Pictures that were not in the cache."""

    def __len__(self) -> int:
        return len(self.places)


def extract(
    pictures: PictureSet,
    features: Features,
    cache: FeatureCache | None = None,
    batch_size: int = 32,
    mixed: bool = False,
) -> Extracted:
    """The features of all pictures. cache: where they are looked up and kept. mixed: opaque and transparent ones may
    stand side by side.

    InputError where transparent pictures are mixed with others, and where fewer than two are whole.
    """
    result, transparent = _extract(pictures, features, cache, batch_size)
    _check(pictures, len(result), result.broken, transparent, mixed)
    return result


def compute(pictures: PictureSet, features: Features, cache: FeatureCache, batch_size: int = 32) -> int:
    """Put the features of any number of pictures into the cache; returns how many were not there."""
    return _extract(pictures, features, cache, batch_size)[0].computed


def _extract(
    pictures: PictureSet, features: Features, cache: FeatureCache | None, batch_size: int
) -> tuple[Extracted, list[int]]:
    """The features, and the places of transparent pictures."""
    rows = _Rows(len(pictures), features.width)
    result = Extracted(pictures.name, rows.features, None, [], dict(pictures.broken))
    transparent: list[int] = []
    waiting: list[tuple[int, bytes, NDArray[np.float32]]] = []

    def compute() -> None:
        if not waiting:
            return
        places, keys, planes = zip(*waiting, strict=True)
        found, probabilities = features(np.stack(planes))
        if cache is not None:
            cache.add(keys, found, probabilities)
        for i, place in enumerate(places):
            rows.put(place, found[i], None if probabilities is None else probabilities[i])
        result.computed += len(waiting)
        waiting.clear()

    read = _read_ahead(pictures, features.size, cache, AHEAD * batch_size)
    for place, one in enumerate(progress(read, total=len(pictures), desc=pictures.name, unit="picture")):
        if isinstance(one, InputError):
            result.broken[pictures.name_of(place)] = str(one)
            continue
        key, size, clear, planes = one
        result.sizes[size] = result.sizes.get(size, 0) + 1
        transparent += [place] * clear
        row = None if cache is None or planes is not None else cache.get(key)
        if row is not None:
            rows.put(place, *row)
            continue
        if planes is None:  # a file of the cache went away meanwhile
            planes = clean_resize(pictures[place].pixels(), features.size)
        waiting.append((place, key, planes))
        if len(waiting) == batch_size:
            compute()
    compute()
    result.places = sorted(rows.places)
    result.features, result.probabilities = rows.whole(result.places)
    return result, transparent


class _Rows:
    """The features and probabilities of a set while they come in, each in its place."""

    def __init__(self, count: int, width: int) -> None:
        self.features = np.zeros((count, width), np.float32)
        self.probabilities: NDArray[np.float32] | None = None
        self.places: set[int] = set()

    def put(
        self, place: int, features: NDArray[np.float32], probabilities: NDArray[np.float32] | None
    ) -> None:
        self.features[place] = features
        if probabilities is not None:
            if self.probabilities is None:
                self.probabilities = np.zeros((len(self.features), len(probabilities)), np.float32)
            self.probabilities[place] = probabilities
        self.places.add(place)

    def whole(self, places: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Those of the whole pictures, at `places`."""
        if len(places) == len(self.features):
            return self.features, self.probabilities
        return self.features[places], None if self.probabilities is None else self.probabilities[places]


def _read_ahead(
    pictures: PictureSet, size: int, cache: FeatureCache | None, ahead: int
) -> Iterator[Read | InputError]:
    """All pictures in order, read by threads."""

    def read(place: int) -> Read | InputError:
        try:
            one = pictures[place]
            side = one.width, one.height
            if cache is not None and cache.has(one.key):
                return one.key, side, one.transparent, None
            return one.key, side, one.transparent, clean_resize(one.pixels(), size)
        except InputError as error:
            return error

    pending: deque[Future[Read | InputError]] = deque()
    with ThreadPoolExecutor(WORKERS) as pool:
        try:
            for place in range(len(pictures)):
                pending.append(pool.submit(read, place))
                if len(pending) >= ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:
                one.cancel()


def _check(
    pictures: PictureSet, whole: int, broken: dict[str, str], transparent: list[int], mixed: bool
) -> None:
    if whole < 2:
        also = f" ({len(broken)} broken: {few(list(broken), 3)})" if broken else ""
        raise InputError(
            f"got {whole} whole picture{'s' * (whole != 1)} in {pictures.name}{also}, expected two or more: a set is "
            "compared, not a picture"
        )
    if transparent and len(transparent) < whole and not mixed:
        raise InputError(
            f"got {len(transparent)} transparent pictures among {whole} in {pictures.name} (the first: "
            f"{pictures[transparent[0]].name}), expected all or none: put them on one background, or on white by "
            "--mixed"
        )
