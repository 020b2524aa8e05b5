"""A captioned data set of emoji in styles: the same concepts as up to seven sets of pictures draw them, as shards.

examples:
    python examples/emoji/build_styles.py --out data/emoji-styles
    python examples/emoji/build_styles.py --out data/emoji-256 --image-size 256 --styles noto twemoji fluent
    python examples/emoji/build_styles.py --out data/emoji-all --packages fetched/ --skin-tones --flags

npm fetches the packages of icons, or --packages has them. A share of the pairs of a concept and a style is held out:
both words were then seen in training, but never together. The same packages and settings give the same files: shards in
train/ and held_out/, styles.json, which says what is where, and ATTRIBUTION.md, which goes where the pictures go.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image
from style_captions import captions, label
from style_concepts import Concept, join, read_concepts, with_names
from style_packages import ALLOWED, LABELS, STYLES, Icon, IconSet, find_package, read_icons
from tqdm import tqdm

from glide.data.datasets import Split, is_held_out
from glide.data.shards.writer import Sample, write_shards
from glide.utils.atomic_write import cannot_write, temporary_name
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.file_locks import check_new_folder
from glide.utils.image_files import decode_picture
from glide.utils.images import on_white
from glide.utils.numbers import real, whole

ENOUGH = 4  # styles that a concept has at least where one is held out


@dataclass(frozen=True)
class BuildStyles:
    """The flags."""

    out: Path
    """A folder that does not exist yet."""
    image_size: int = 64
    """Height and width of the pictures."""
    styles: tuple[str, ...] = ("noto", "blob", "twemoji", "fluent", "flat", "emojione", "mozilla")
    """Sets of pictures by the word for them; openmoji is the eighth, and needs --allow CC-BY-SA-4.0."""
    allow: tuple[str, ...] = ()
    """Licences (SPDX names) that are accepted besides Apache-2.0, MIT and CC-BY-4.0."""
    skin_tones: bool = False
    """Emoji with a colour of skin too."""
    flags: bool = False
    """Flags too."""
    held_out: float = 0.1
    """Share of the pairs that goes to held_out, chosen by a hash of concept and style."""
    packages: Path | None = None
    """Folder with tarballs of npm pack, or a node_modules; without it npm fetches what is not in --cache yet."""
    cache: Path = Path("data/npm")
    """Where npm puts the tarballs."""
    format: Literal["png", "webp"] = "png"
    """Format of the pictures; both keep every pixel. WebP takes two thirds of the bytes, twice the time to decode."""
    per_shard: int = 1000


@dataclass(frozen=True)
class Pair:
    """A concept in a style."""

    concept: Concept
    icons: IconSet
    icon: Icon
    split: Split

    @property
    def key(self) -> str:
        return f"{self.concept.code}-{self.icons.style.word}"


def build(args: BuildStyles) -> dict[Split, int]:
    """Write the data set, whole or not at all; returns how many pictures each split has. InputError as usual."""
    _check(args)
    _resvg()
    sets = [
        read_icons(STYLES[word], find_package(STYLES[word], args.packages, args.cache), ALLOWED + args.allow)
        for word in dict.fromkeys(args.styles)
    ]
    labels = find_package(LABELS, args.packages, args.cache)
    kinds = {"plain", *(["skin"] if args.skin_tones else []), *(["flag"] if args.flags else [])}
    concepts = [concept for concept in with_names(read_concepts(labels), sets) if concept.kind in kinds]
    pairs = list(_pairs(concepts, sets, args.held_out))
    if not pairs:
        raise InputError(f"of {len(concepts)} emoji none is in the packages: fetch them again")
    aside = temporary_name(args.out)
    try:
        with tqdm(total=len(pairs), desc="drawing", unit="picture") as bar:
            for split in ("train", "held_out"):
                of_split = [pair for pair in pairs if pair.split == split]
                write_shards(aside / split, _samples(of_split, args, bar), args.per_shard)
        (aside / "styles.json").write_text(_contents(pairs, sets, args), "utf-8")
        (aside / "ATTRIBUTION.md").write_text(_attribution(pairs, sets, args), "utf-8")
        aside.rename(args.out)
    except OSError as error:
        raise cannot_write(args.out, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return _told(pairs, sets, args)


def _check(args: BuildStyles) -> None:
    check_new_folder(args.out)
    unknown = [word for word in args.styles if word not in STYLES]
    if unknown or not args.styles:
        raise InputError(f"--styles {' '.join(unknown)}: expected some of {' '.join(STYLES)}")
    whole(args.image_size, "--image-size", 8, 1024)
    whole(args.per_shard, "--per-shard", 1)
    real(args.held_out, "--held-out", 0, 0.5)
    if args.packages is not None and not args.packages.is_dir():
        raise InputError(
            f"--packages {args.packages}: there is no such folder, expected one of npm's packages"
        )


def _pairs(concepts: Sequence[Concept], sets: Sequence[IconSet], share: float) -> Iterator[Pair]:
    """All pairs, in the order of a hash: neighbours in a shard have nothing to do with each other."""
    found = {icons.style.word: join(concepts, icons) for icons in sets}
    pairs: list[Pair] = []
    for concept in concepts:
        here = [icons for icons in sets if concept.code in found[icons.style.word]]
        words = [icons.style.word for icons in here]
        held = [word for word in words if is_held_out(f"{concept.code}/{word}", share)]
        if len(words) < ENOUGH:
            held = []
        elif len(held) == len(words):
            held = held[1:]  # the concept is to be seen
        for icons, word in zip(here, words, strict=True):
            icon = found[word][concept.code]
            pairs.append(Pair(concept, icons, icon, "held_out" if word in held else "train"))
    yield from sorted(pairs, key=lambda pair: hashlib.sha256(pair.key.encode()).digest())


def _samples(pairs: Sequence[Pair], args: BuildStyles, bar: tqdm) -> Iterator[Sample]:
    for pair in pairs:
        word = pair.icons.style.word
        said = captions(pair.concept, word)
        about = {
            "captions": said,
            "concept": label(pair.concept),
            "code": pair.concept.code,
            "style": word,
            "licence": pair.icons.licence,
            "source": pair.icons.source,
            "icon": pair.icon.name,
        }
        picture = draw(pair.icon, args.image_size)
        text = json.dumps(about, ensure_ascii=False, separators=(",", ":"))
        yield pair.key, {args.format: encode(picture, args.format), "json": text.encode()}
        bar.update()


def draw(icon: Icon, size: int) -> Image.Image:
    """The icon on white, RGB, size x size; in the middle where its box is no square. InputError for a broken one."""
    left, top, width, height = icon.box
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left:g} {top:g} {width:g} {height:g}" width="{size}" height="{size}">{icon.body}</svg>'
    )
    try:
        # without the fonts of the machine: there is no text in them
        data = _resvg().svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    except ValueError as error:
        raise InputError(
            f"the icon {icon.name} cannot be drawn ({error}): fetch its package again"
        ) from error
    picture = on_white(decode_picture(data, f"the icon {icon.name}")[0])
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if icon.mirrored else picture


def encode(picture: Image.Image, form: Literal["png", "webp"]) -> bytes:
    """The file, without loss; a PNG of up to 256 colours names them once, which is smaller and faster to read."""
    file = io.BytesIO()
    if form == "webp":
        picture.save(file, "WEBP", lossless=True, quality=80, method=4)  # more effort gains 1%
        return file.getvalue()
    pixels = np.asarray(picture)
    colours, places = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    if len(colours) <= 256:
        picture = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8))
        picture.putpalette(colours.tobytes())
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


def _resvg() -> ModuleType:
    try:
        import resvg_py
    except ImportError:
        raise InputError(
            "drawing needs resvg-py, which is not installed: pip install 'glide-toolkit[emoji]'"
        ) from None
    return resvg_py


def _contents(pairs: Sequence[Pair], sets: Sequence[IconSet], args: BuildStyles) -> str:
    """styles.json: the sets, and each concept with its split in each style."""
    concepts: dict[str, dict[str, object]] = {}
    for pair in sorted(pairs, key=lambda pair: pair.concept.code):
        known = concepts.setdefault(
            pair.concept.code, {"concept": label(pair.concept), "group": pair.concept.group, "styles": {}}
        )
        known["styles"][pair.icons.style.word] = pair.split  # type: ignore[index]
    styles = {icons.style.word: {"source": icons.source, "licence": icons.licence} for icons in sets}
    whole_file = {"image_size": args.image_size, "styles": styles, "concepts": concepts}
    return json.dumps(whole_file, indent=1, ensure_ascii=False) + "\n"


def _attribution(pairs: Sequence[Pair], sets: Sequence[IconSet], args: BuildStyles) -> str:
    counts = Counter(pair.icons.style.word for pair in pairs)
    lines = [
        "# Attribution",
        "",
        "The pictures are the SVG icons of these sets, drawn on white at "
        f"{args.image_size}x{args.image_size} pixels and otherwise unchanged.",
        "Pass this file on with the pictures, and name the sets where a model that was trained on them is shared.",
        "",
    ]
    for icons in sets:
        lines += [
            f"- {icons.title} ({icons.style.word} style, {counts[icons.style.word]} pictures) by {icons.author}, "
            f"{icons.url}, licensed under {icons.licence}, {icons.licence_url}; from the npm package {icons.source}"
        ]
    lines += ["", "Labels and tags are emojibase-data's (MIT), which has them of Unicode's CLDR.", ""]
    return "\n".join(lines)


def _told(pairs: Sequence[Pair], sets: Sequence[IconSet], args: BuildStyles) -> dict[Split, int]:
    counts = Counter((pair.icons.style.word, pair.split) for pair in pairs)
    for icons in sets:
        word = icons.style.word
        train, held = counts[word, "train"], counts[word, "held_out"]
        print(f"{word:9} {train:5} to train with, {held:4} held out  ({icons.source}, {icons.licence})")
    sizes: dict[Split, int] = {"train": 0, "held_out": 0}
    for pair in pairs:
        sizes[pair.split] += 1
    concepts = len({pair.concept.code for pair in pairs})
    print(
        f"{len(pairs)} pictures of {concepts} concepts in {args.out}: {sizes['train']} to train with, "
        f"{sizes['held_out']} pairs held out"
    )
    return sizes


if __name__ == "__main__":
    run(lambda: build(parse(BuildStyles, __doc__)))
