"""The glyphs of a colour emoji font of bitmaps (CBDT and CBLC tables), as Noto Color Emoji has them.

With fontTools every emoji that the font has: single code points from its cmap, sequences from its GSUB ligatures, and
their PNGs as they lie in the font. Without it Pillow draws the single code points.
"""

from __future__ import annotations

import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from emoji_names import VARIATION, in_order, kind_of, name_of
from PIL import Image, ImageDraw, ImageFont

from glide.utils.errors import InputError
from glide.utils.image_files import decode_picture

SIZE = 109  # the one size that the bitmaps of Noto Color Emoji have: 136x128 pixels
FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/Library/Fonts")
FILE = "NotoColorEmoji.ttf"
PLANES = (*range(0x203C, 0x3300), *range(0x1F000, 0x1FB00))  # where single emoji stand


@dataclass(frozen=True)
class Emoji:
    """A glyph: its code points without variation selectors, its name, and its picture."""

    points: tuple[int, ...]
    name: str
    picture: Image.Image  # RGBA

    @property
    def key(self) -> str:
        return "-".join(f"{point:x}" for point in self.points)

    @property
    def kind(self) -> str:
        return kind_of(self.points)


def find_font(given: Path | None = None) -> Path:
    """The font: the given one, else what fontconfig or the usual folders have. InputError where there is none."""
    if given is not None:
        if not given.is_file():
            raise InputError(f"there is no font {given}: give the path of a {FILE}")
        return given
    found = [path for path in (*_fontconfig(), *_usual()) if path.is_file()]
    if not found:
        raise InputError(
            f"found no {FILE}: install it (on Debian: apt install fonts-noto-color-emoji), or give one by --font"
        )
    return found[0]


def _fontconfig() -> list[Path]:
    try:
        done = subprocess.run(
            ["fc-list", "--format", "%{file}\n", "Noto Color Emoji"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(line) for line in sorted(done.stdout.splitlines()) if line]


def _usual() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted(Path(folder).expanduser().rglob(FILE))


def glyphs(font: Path) -> list[Emoji]:
    """All emoji of a font that have a name, in the order of their code points; each name once, and so each glyph, but
    for flags that look the same.

    InputError for a file that is no font of colour bitmaps.
    """
    try:
        found = _by_tables(font)
    except ImportError:
        print("fontTools is not installed (pip install 'glide-toolkit[emoji]'): single code points only")
        found = _by_drawing(font)
    emoji: dict[str, Emoji] = {}
    for points, picture in sorted(found.items()):
        name = name_of(points) if _is_emoji(points) else None
        if name is not None and name not in emoji and picture.getbbox() is not None:
            emoji[name] = Emoji(points, name, picture)
    if not emoji:
        raise InputError(f"{font} holds no emoji that can be named: give a {FILE}")
    return list(emoji.values())


def _is_emoji(points: tuple[int, ...]) -> bool:
    """Not: digits and the like, which the font has for its keycaps, and private code points."""
    if len(points) > 1:
        return in_order(points)
    return points[0] > 0xA0 and unicodedata.category(chr(points[0])) not in ("Cn", "Co", "Cf", "Me", "Mn")


def _by_tables(font: Path) -> dict[tuple[int, ...], Image.Image]:
    """Pictures by code points. ImportError without fontTools."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with font.open("rb") as stream, TTFont(stream, lazy=True) as file:
            if not {"CBDT", "CBLC", "cmap"} <= set(file.keys()):
                raise InputError(f"{font} has no colour bitmaps (CBDT), expected some: give a {FILE}")
            names = dict(file.getBestCmap().items())
            strikes = {name: glyph for strike in file["CBDT"].strikeData for name, glyph in strike.items()}
            wanted: dict[str, list[tuple[int, ...]]] = {}
            for point, name in sorted(names.items()):
                wanted.setdefault(name, []).append((point,))
            if "GSUB" in file:
                for name, sequences in _sequences(file["GSUB"].table, names).items():
                    wanted.setdefault(name, []).extend(sequences)
            return {
                points: decode_picture(strikes[name].imageData, name)[0].convert("RGBA")
                for name, every in wanted.items()
                if name in strikes
                for points in _wanted(every)
            }
    except (TTLibError, OSError, KeyError, AttributeError, AssertionError) as error:
        raise InputError(f"{font} cannot be read as a font ({error}): give a {FILE}") from error


def _wanted(every: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Of the code points that give one glyph: all flags, else a single one, else those of a couple, the woman first."""
    fitting = [points for points in every if _is_emoji(points)]
    flags = [points for points in fitting if kind_of(points) == "flag"]
    return flags or sorted(fitting, key=lambda points: (-len(points), points))[-1:]


def _sequences(table: Any, names: dict[int, str]) -> dict[str, list[tuple[int, ...]]]:
    """By glyph the sequences of code points in whose place the font's ligatures put it."""
    points = {name: point for point, name in sorted(names.items(), reverse=True)}
    found: dict[str, list[tuple[int, ...]]] = {}
    for lookup in table.LookupList.Lookup:
        for subtable in lookup.SubTable:
            subtable = getattr(subtable, "ExtSubTable", subtable)
            for first, ligatures in getattr(subtable, "ligatures", {}).items():
                for ligature in ligatures:
                    parts = [first, *ligature.Component]
                    if all(part in points for part in parts):
                        key = tuple(points[part] for part in parts if points[part] != VARIATION)
                        found.setdefault(ligature.LigGlyph, []).append(key)
    return found


def _by_drawing(font: Path) -> dict[tuple[int, ...], Image.Image]:
    """Pictures of single code points, drawn by Pillow."""
    try:
        face = ImageFont.truetype(str(font), SIZE)
    except OSError as error:
        raise InputError(
            f"{font} cannot be drawn at size {SIZE} ({error}): expected a font of colour bitmaps, a {FILE}"
        ) from error
    found: dict[tuple[int, ...], Image.Image] = {}
    for point in PLANES:
        if unicodedata.name(chr(point), None) is None:
            continue
        picture = Image.new("RGBA", (136, 128))
        ImageDraw.Draw(picture).text((0, 0), chr(point), font=face, embedded_color=True, anchor="lt")
        if picture.getbbox() is not None:
            found[(point,)] = picture
    return found


def on_background(picture: Image.Image, size: int | None = None, background: str = "white") -> Image.Image:
    """RGBA -> RGB, in the middle of a square that is as wide as its longer side, scaled to `size` where given."""
    side = max(picture.size)
    square = Image.new("RGBA", (side, side), background)
    place = ((side - picture.width) // 2, (side - picture.height) // 2)
    square.alpha_composite(picture, place)
    plain = square.convert("RGB")
    return plain if size is None or size == side else plain.resize((size, size), Image.Resampling.LANCZOS)


def same_pixels(a: Image.Image, b: Image.Image) -> bool:
    """True if two glyphs look the same (some flags do)."""
    return np.array_equal(np.asarray(on_background(a)), np.asarray(on_background(b)))
