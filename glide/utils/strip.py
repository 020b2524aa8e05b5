"""The progress pictures of a run as one strip: the first row of each grid, time going down."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from glide.utils.atomic_write import atomic_path
from glide.utils.image_files import BrokenImageError, read_picture
from glide.utils.images import on_white

MARGIN = 52  # pixels at the left, for the step


def write_strip(samples: Path, row: int, rows: int = 12) -> Path | None:
    """Write `samples/strip.png` from the grids `samples/0001000.png`, ...; None where there are none.

    row: height of a grid's first row, pixels. rows: of the strip at most; the first and the last grid are always there,
    those between are spread evenly.
    """
    grids = sorted(path for path in samples.glob("*.png") if re.fullmatch(r"\d+\.png", path.name))
    if not grids:
        return None
    if len(grids) > rows:
        grids = [grids[i] for i in torch.linspace(0, len(grids) - 1, rows).round().long().tolist()]
    cut = []
    for path in grids:
        try:
            grid = on_white(read_picture(path))
        except BrokenImageError:
            continue  # somebody's own file, or a damaged one: no reason to end a training
        cut.append((path, grid.crop((0, 0, grid.width, min(row, grid.height)))))
    if not cut:
        return None
    sheet = Image.new("RGB", (MARGIN + max(part.width for _, part in cut), row * len(cut)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (path, part) in enumerate(cut):
        sheet.paste(part, (MARGIN, i * row))
        pen.text((4, i * row + row // 2 - 5), str(int(path.stem)), fill="black")
    with atomic_path(samples / "strip.png") as temporary:
        sheet.save(temporary, format="PNG")
    return samples / "strip.png"
