"""Previews of a running job: at most eight a second, and a twentieth of the time of sampling.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from glide.utils.images import as_image, to_uint8

A_SECOND = 8
SHARE = 0.05
"""Of the time since the job began, which previews may take."""
LARGEST_PNG = 128 * 128  # pixels of a preview; larger ones are JPEG, which is made faster
QUALITY = 85


class PreviewBudget:
    """Says when the next preview of a job may be made, from the time that those before it took.

    cost: seconds of one, as far as is known. None: nothing can be shown.
    """

    def __init__(self, cost: float | None = 0.0, now: Callable[[], float] = time.perf_counter) -> None:
        self.now, self.cost, self.spent = now, cost, 0.0
        self.began = now()
        self._last = -math.inf

    def allows(self) -> bool:
        """True where one more, as long as the longest so far, stays within both bounds."""
        now = self.now()
        often = now - self._last < 1 / A_SECOND
        return self.cost is not None and not often and self.spent + self.cost <= SHARE * (now - self.began)

    def make(self, preview: Callable[[], bytes]) -> bytes:
        """Make one and count its time."""
        before = self.now()
        data = preview()
        took = self.now() - before
        self.cost = max(self.cost or 0.0, took)
        self._last, self.spent = before, self.spent + took
        return data


def columns_of(count: int) -> int:
    """Pictures side by side in a preview of so many."""
    return math.ceil(math.sqrt(count))


def sheet(x: Tensor) -> bytes:
    """x0 [N,C,H,W] in [-1, 1] as one picture file, in rows of `columns_of` N, without gaps."""
    pixels = to_uint8(x)  # [N,H,W,C]
    count, height, width, channels = pixels.shape
    columns = columns_of(count)
    rows = math.ceil(count / columns)
    filled = torch.full((rows * columns, height, width, channels), 255, dtype=torch.uint8)
    filled[:count] = pixels
    together = filled.view(rows, columns, height, width, channels).permute(0, 2, 1, 3, 4)
    picture = as_image(together.reshape(rows * height, columns * width, channels))
    file = io.BytesIO()
    if picture.width * picture.height <= LARGEST_PNG or picture.mode not in ("RGB", "L"):
        picture.save(file, format="PNG", compress_level=1)
    else:
        picture.save(file, format="JPEG", quality=QUALITY)
    return file.getvalue()
