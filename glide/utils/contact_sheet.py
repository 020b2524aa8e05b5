"""Pictures with their captions below them, on one sheet.

N pictures, H W pixels, C channels.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from glide.utils.atomic_write import atomic_path
from glide.utils.channels import on_white
from glide.utils.errors import InputError
from glide.utils.image_files import BrokenImageError, read_picture
from glide.utils.images import Pixels, as_image

MARGIN = 4
LINES = 3  # of a caption that are shown
FONT = 11
READABLE = 96  # pixels of a picture's width, under which its caption is cut after a word or two


def enlarged(pictures: Pixels, width: int = READABLE) -> Pixels:
    """uint8 [N,H,W,3], each pixel repeated until a picture is at least `width` wide, for its caption to be read."""
    pixels = np.asarray(pictures)
    times = -(-width // pixels.shape[2])
    return torch.from_numpy(pixels.repeat(times, 1).repeat(times, 2))


def row_height(height: int, font_size: int = FONT) -> int:
    """Pixels of one row of a contact sheet, of pictures of that height with their captions."""
    return _cell(height, 0, font_size)[0]


def contact_sheet(
    pictures: Pixels, captions: Sequence[str], columns: int | None = None, font_size: int = FONT
) -> Tensor:
    """uint8 [N,H,W,C] and a caption for each -> one uint8 [H',W',3], row by row on white.

    A caption is wrapped to its picture's width, and what does not fit into three lines is left out. Characters that
    Pillow's own font lacks (it has Latin ones) are drawn as boxes. columns: by default as many as make it about square.
    """
    pixels = np.asarray(pictures)
    count, height, width, _ = pixels.shape
    font = ImageFont.load_default(font_size)
    line, (down, across) = _line(font_size), _cell(height, width, font_size)
    size, columns = sheet_size(count, height, width, columns, font_size)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = i % columns * across + MARGIN, i // columns * down + MARGIN
        sheet.paste(on_white(as_image(picture)), (x, y))
        for number, text in enumerate(wrapped(caption, width, font)):
            draw.text((x, y + height + 2 + number * line), text, fill="black", font=font)
    return torch.from_numpy(np.array(sheet))


def sheet_size(
    count: int, height: int, width: int, columns: int | None = None, font_size: int = 11
) -> tuple[tuple[int, int], int]:
    """Width and height of the sheet for so many pictures of a size, and its columns.

    InputError for a sheet of more pixels than Pillow takes to be safe, which no viewer would show.
    """
    down, across = _cell(height, width, font_size)
    columns = min(columns or math.ceil(math.sqrt(count * down / across)), count)
    size = columns * across, math.ceil(count / columns) * down
    most = Image.MAX_IMAGE_PIXELS
    if most and size[0] * size[1] > most:
        raise InputError(
            f"{count} pictures of {width}x{height} on a sheet have more than {most} pixels: give fewer or smaller ones"
        )
    return size, columns


def _cell(height: int, width: int, font_size: int) -> tuple[int, int]:
    """Height and width that a picture takes with its caption and margins."""
    return height + LINES * _line(font_size) + 2 * MARGIN, width + 2 * MARGIN


def _line(font_size: int) -> int:
    return math.ceil(font_size * 1.25)


def wrapped(
    text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, lines: int = LINES
) -> list[str]:
    """The lines of a text, `width` pixels wide at most; the last one ends in "..." where something is left out."""
    # a font measures no text of any length, and what is far beyond the last line is not shown
    most = (lines + 1) * (width + 1)
    words, found = [*text[:most].split(), *["..."] * bool(text[most:].strip())], [""]
    while words and len(found) <= lines:
        longer = f"{found[-1]} {words[0]}".strip()
        if font.getlength(longer) <= width:
            found[-1] = longer
            words.pop(0)
        elif found[-1]:
            found.append("")
        else:  # one word wider than the picture
            lengths = range(2, len(words[0]) + 1)
            head = 1 + bisect_right(lengths, width, key=lambda n: math.ceil(font.getlength(words[0][:n])))
            found[-1], words[0] = words[0][:head], words[0][head:]
            found.append("")
    found = [line for line in found if line]
    if len(found) > lines or words:
        found = found[:lines]
        last = found[-1]
        while last and font.getlength(last + "...") > width:
            last = last[:-1]
        found[-1] = last.rstrip() + "..."
    return found


STEP_MARGIN = 52  # pixels at the left, for the step


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
    sheet = Image.new("RGB", (STEP_MARGIN + max(part.width for _, part in cut), row * len(cut)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (path, part) in enumerate(cut):
        sheet.paste(part, (STEP_MARGIN, i * row))
        pen.text((4, i * row + row // 2 - 5), str(int(path.stem)), fill="black")
    with atomic_path(samples / "strip.png") as temporary:
        sheet.save(temporary, format="PNG")
    return samples / "strip.png"
