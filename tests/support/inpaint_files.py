"""What the tests of scripts/inpaint.py share: the script in this process, pictures and masks."""

from pathlib import Path

import inpaint as script  # scripts/inpaint.py
import numpy as np
import pytest
from PIL import Image

from glide.utils.cli import run
from support.models import CAPTIONS

RED = CAPTIONS[0]
RNG = np.random.default_rng(0)


def call(*argv: object) -> int:
    """Exit code of the script, called in this process."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code


def photo(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 13)) -> Path:
    """A picture file of random pixels in some mode."""
    width, height = size
    if mode == "16":
        Image.fromarray(RNG.integers(0, 65536, (height, width), dtype=np.uint16)).save(path)
        return path
    channels = {"RGB": 3, "RGBA": 4, "L": 1, "LA": 2, "P": 3, "1": 1, "CMYK": 4}[mode]
    pixels = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if mode in ("RGB", "P"):
        image = Image.fromarray(pixels)
        image = image.quantize(16) if mode == "P" else image
    elif mode == "CMYK":
        image = Image.frombytes("CMYK", size, pixels.tobytes())
    else:
        image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        image = image.convert("1") if mode == "1" else image
    image.save(path)
    return path


def mask_file(path: Path, size: tuple[int, int] = (20, 13), box: tuple[int, ...] = (5, 2, 12, 9)) -> Path:
    mask = Image.new("L", size, 0)
    mask.paste(255, box)
    mask.save(path)
    return path


def inside(size: tuple[int, int] = (20, 13), box: tuple[int, ...] = (5, 2, 12, 9)) -> np.ndarray:
    unknown = np.zeros(size[::-1], bool)
    unknown[box[1] : box[3], box[0] : box[2]] = True
    return unknown
