"""Pictures with their captions below them, on one sheet.

N pictures, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from glide.images import Pixels

MARGIN = 4
LINES = 3  # of a caption that are shown


def contact_sheet(
    pictures: Pixels, captions: Sequence[str], columns: int | None = None, font_size: int = 11
) -> Tensor:
    """uint8 [N,H,W,3] and a caption for each -> one uint8 [H',W',3], row by row on white.

    A caption is wrapped to its picture's width, and what does not fit into three lines is left out. Characters that
    Pillow's own font lacks (it has Latin ones) are drawn as boxes. columns: by default as many as make it about square.
    """
    pixels = np.asarray(pictures)
    count, height, width, _ = pixels.shape
    font = ImageFont.load_default(font_size)
    line = math.ceil(font_size * 1.25)
    down, across = height + LINES * line + 2 * MARGIN, width + 2 * MARGIN
    columns = min(columns or math.ceil(math.sqrt(count * down / across)), count)
    sheet = Image.new("RGB", (columns * across, math.ceil(count / columns) * down), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, caption) in enumerate(zip(pixels, captions, strict=True)):
        x, y = i % columns * across + MARGIN, i // columns * down + MARGIN
        sheet.paste(Image.fromarray(picture), (x, y))
        for number, text in enumerate(wrapped(caption, width, font)):
            draw.text((x, y + height + 2 + number * line), text, fill="black", font=font)
    return torch.from_numpy(np.array(sheet))


def wrapped(
    text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, lines: int = LINES
) -> list[str]:
    """The lines of a text, `width` pixels wide at most; the last one ends in "..." where something is left out."""
    words, found = text.split(), [""]
    while words and len(found) <= lines:
        longer = f"{found[-1]} {words[0]}".strip()
        if font.getlength(longer) <= width:
            found[-1] = longer
            words.pop(0)
        elif found[-1]:
            found.append("")
        else:  # one word wider than the picture
            head = next((n for n in range(len(words[0]), 1, -1) if font.getlength(words[0][:n]) <= width), 1)
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
