"""Features kept on disk by picture and network, so that a run that was interrupted computes nothing twice.

A folder for each network holds files of some pictures each, written whole or not at all, by any number of processes at
once. A picture is known by a hash of its bytes, so moved and renamed files are found again.

Shape letters: N pictures, F features, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from glide.utils.filesystem import write_bytes
from toolkit.evaluation.clean_resize import VERSION
from toolkit.evaluation.features import Features

Row = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Features [F] and class probabilities [K] of one picture."""
KEY_BYTES = 32


class FeatureCache:
    """The features of one network in a folder. Only keys stay in memory."""

    def __init__(self, folder: Path, features: Features) -> None:
        """Files that are damaged, or of another network, count as missing."""
        self.folder = folder / f"{features.fingerprint}-{features.size}-{VERSION}"
        self.width = features.width
        self._places: dict[bytes, tuple[Path, int]] = {}
        self._open: tuple[Path, NDArray[np.float32], NDArray[np.float32] | None] | None = None
        for path in sorted(self.folder.glob("*.safetensors")):
            keys = self._keys(path)
            self._places.update({keys[i].tobytes(): (path, i) for i in range(len(keys))})

    def __len__(self) -> int:
        return len(self._places)

    def has(self, key: bytes) -> bool:
        """True for a picture whose features are there."""
        return key in self._places

    def get(self, key: bytes) -> Row | None:
        """The features of a picture; None if they are missing. Pictures in the order of `add` are read fastest."""
        place = self._places.get(key)
        if place is None:
            return None
        path, row = place
        if self._open is None or self._open[0] != path:
            try:
                with safe_open(path, "numpy") as file:
                    there = "probabilities" in set(file.keys())
                    probabilities = file.get_tensor("probabilities") if there else None
                    self._open = path, file.get_tensor("features"), probabilities
            except (OSError, SafetensorError):
                return None
        _, features, probabilities = self._open
        return features[row], None if probabilities is None else probabilities[row]

    def add(
        self, keys: Sequence[bytes], features: NDArray[np.float32], probabilities: NDArray[np.float32] | None
    ) -> None:
        """Write the features [N,F] and class probabilities [N,K] of N pictures. InputError if that fails."""
        table = {"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY_BYTES), "features": features}
        if probabilities is not None:
            table["probabilities"] = probabilities
        path = self.folder / f"{hashlib.sha256(b''.join(keys)).hexdigest()[:32]}.safetensors"
        write_bytes(path, save({name: np.ascontiguousarray(part) for name, part in table.items()}))
        self._places.update({key: (path, row) for row, key in enumerate(keys)})

    def _keys(self, path: Path) -> NDArray[np.uint8]:
        """The keys [N,32] in a file; none of one that is damaged."""
        none = np.empty((0, KEY_BYTES), np.uint8)
        try:
            with safe_open(path, "numpy") as file:
                keys, shape = file.get_tensor("keys"), file.get_slice("features").get_shape()
        except (OSError, SafetensorError):
            return none
        fits = keys.ndim == 2 and keys.shape[1] == KEY_BYTES and shape == [len(keys), self.width]
        return keys if fits and keys.dtype == np.uint8 else none
