"""Shared by tests: BAD, GOOD, WRONG, damaged."""

import io

import numpy as np
from PIL import Image

GOOD, BAD = 95, 5


def jpeg(seed: int, side: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side)).save(file, "JPEG")
    return file.getvalue()


def damaged() -> dict[str, dict[str, bytes]]:
    """Samples by key: one each cut off, empty, text, without a caption, with an empty one; the rest is whole."""
    samples = {f"{i:03}": {"jpg": jpeg(i), "txt": b"noise %d" % i} for i in range(GOOD + BAD)}
    samples["010"]["jpg"] = samples["010"]["jpg"][:150]
    samples["030"]["jpg"] = b""
    samples["050"]["jpg"] = b"<html>not found</html>"
    del samples["070"]["txt"]
    samples["090"]["txt"] = b"\n"
    return samples


WRONG = ("010", "030", "050", "070", "090")
