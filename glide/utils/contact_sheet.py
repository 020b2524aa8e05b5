"""Contact sheets: pictures with their captions on one sheet, and strips of a run's progress pictures.

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
LINES = 3  # shown lines of a caption
FONT = 11
READABLE = 96  # least width of a picture for a readable caption, in pixels


def enlarged(pictures: Pixels, width: int = READABLE) -> Pixels:
    """uint8 [N,H,W,3] with pixels repeated until a picture is at least `width` wide, for a readable caption."""
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

    A caption is wrapped to its picture's width and truncated after three lines. Characters that Pillow's own font
    lacks (it has Latin ones) are drawn as boxes. columns: by default as many as make it about square.
    """
    pixels = np.asarray(pictures)
    count, height, width, _ = pixels.shape
    font = ImageFont.load_default(font_size)
    down, across = _cell(height, width, font_size)
    size, columns = sheet_size(count, height, width, columns, font_size)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = i % columns * across + MARGIN, i // columns * down + MARGIN
        sheet.paste(on_white(as_image(picture)), (x, y))
        _write_lines(draw, (x, y + height + 2), wrapped(caption, width, font), font, font_size)
    return torch.from_numpy(np.array(sheet))


def sheet_size(
    count: int, height: int, width: int, columns: int | None = None, font_size: int = 11
) -> tuple[tuple[int, int], int]:
    """Width and height of the sheet for so many pictures of a size, and its columns.

    InputError for a sheet of more pixels than Pillow considers safe, which no viewer would show.
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
    """Height and width of a picture with its caption and margins."""
    return height + LINES * _line(font_size) + 2 * MARGIN, width + 2 * MARGIN


def _line(font_size: int) -> int:
    return math.ceil(font_size * 1.25)


def wrapped(
    text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, lines: int = LINES
) -> list[str]:
    """The lines of a text, `width` pixels wide at most; the last one ends in "..." if text is left out."""
    # a font cannot measure texts of any length, and text far beyond the last line is not shown
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


def labelled_grid(
    pictures: Tensor, columns: Sequence[str], rows: Sequence[str], font_size: int = FONT
) -> Tensor:
    """uint8 [R,K,H,W,C] as one uint8 [H',W',3] on white, with a text above each column and one left of each row.

    Pictures are enlarged by whole numbers until their labels can be read. Rows whose texts are all empty have no
    margin. Texts are wrapped as captions are. InputError for a grid of more pixels than a viewer shows.
    """
    count, across = pictures.shape[:2]
    cells = np.asarray(enlarged(pictures.flatten(0, 1)))
    height, width = cells.shape[1:3]
    font = ImageFont.load_default(font_size)
    above, beside = ([wrapped(text, width, font) for text in texts] for texts in (columns, rows))
    left = max((math.ceil(font.getlength(line)) + MARGIN for lines in beside for line in lines), default=0)
    top = max(map(len, above)) * _line(font_size) + MARGIN
    size = (left + across * (width + MARGIN) + MARGIN, top + count * (height + MARGIN) + MARGIN)
    most = Image.MAX_IMAGE_PIXELS
    if most and size[0] * size[1] > most:
        raise InputError(f"got a grid of more than {most} pixels, expected fewer or smaller pictures")
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for k, lines in enumerate(above):
        _write_lines(draw, (left + MARGIN + k * (width + MARGIN), MARGIN), lines, font, font_size)
    for r, lines in enumerate(beside):
        y = top + MARGIN + r * (height + MARGIN)
        _write_lines(draw, (MARGIN, y), lines, font, font_size)
        for k in range(across):
            picture = on_white(as_image(cells[r * across + k]))
            sheet.paste(picture, (left + MARGIN + k * (width + MARGIN), y))
    return torch.from_numpy(np.array(sheet))


def _write_lines(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    font_size: int,
) -> None:
    for number, text in enumerate(lines):
        draw.text((place[0], place[1] + number * _line(font_size)), text, fill="black", font=font)


STEP_MARGIN = 52  # pixels at the left, for the step's number


def write_strip(samples: Path, row: int, rows: int = 12) -> Path | None:
    """Write `samples/strip.png` from the first rows of the grids `samples/0001000.png`, ...; None if there are none.

    row: height of a grid's first row, pixels. rows: limit on the strip's rows; the first and the last grid are always
    included, others at even intervals.
    """
    grids = sorted(path for path in samples.glob("*.png") if re.fullmatch(r"\d+\.png", path.name))
    if not grids:
        return None
    if len(grids) > rows:
        grids = [grids[i] for i in torch.linspace(0, len(grids) - 1, rows).round().long().tolist()]
    strips = []
    for path in grids:
        try:
            grid = on_white(read_picture(path))
        except BrokenImageError:
            continue  # a user's own file, or a damaged one: no reason to end a training run
        strips.append((path, grid.crop((0, 0, grid.width, min(row, grid.height)))))
    if not strips:
        return None
    sheet = Image.new(
        "RGB", (STEP_MARGIN + max(part.width for _, part in strips), row * len(strips)), "white"
    )
    pen = ImageDraw.Draw(sheet)
    for i, (path, part) in enumerate(strips):
        sheet.paste(part, (STEP_MARGIN, i * row))
        pen.text((4, i * row + row // 2 - 5), str(int(path.stem)), fill="black")
    with atomic_path(samples / "strip.png") as temporary:
        sheet.save(temporary, format="PNG")
    return samples / "strip.png"
