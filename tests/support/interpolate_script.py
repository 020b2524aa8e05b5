"""Shared by tests: call, photo."""

from pathlib import Path

import interpolate as script  # scripts/interpolate.py
import numpy as np
import pytest
from PIL import Image

from glide.utils.cli import run


def call(*argv: object) -> int:
    """Exit code of scripts/interpolate.py, called in this process."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code


def photo(path: Path, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path
