"""A captioned data set of emoji: the glyphs of a colour emoji font with their Unicode names, as shards and as folders.

examples:
    python examples/emoji/build_emoji.py --out data/emoji
    python examples/emoji/build_emoji.py --out data/emoji-200 --count 200 --kinds single --held-out 0
    python examples/emoji/build_emoji.py --out data/emoji --font fonts/NotoColorEmoji.ttf --size 64

The same font and Python give the same files. data/emoji/ then holds shards/train, shards/held_out, folder/train,
folder/held_out and emoji.json, a list of what is where.
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
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from emoji_font import Emoji, find_font, glyphs, on_background

from glide.data.datasets import is_held_out
from glide.data.shards.writer import Sample, write_shards
from glide.utils.atomic_write import cannot_write, temporary_name
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.file_locks import check_new_folder

Kind = Literal["single", "keycap", "flag", "skin", "joined"]


@dataclass(frozen=True)
class BuildEmoji:
    """The flags."""

    out: Path
    """A folder that does not exist yet."""
    font: Path | None = None
    """A font of colour bitmaps; by default the Noto Color Emoji that fontconfig or the usual folders have."""
    kinds: tuple[Kind, ...] = ("single", "keycap", "flag", "skin", "joined")
    """single code points; keycaps; flags; what has a colour of skin; other sequences."""
    count: int | None = None
    """Largest number of emoji, chosen by a hash of their code points."""
    held_out: float = 0.05
    """Share of the emoji that goes to held_out, chosen by a hash of the code points."""
    size: int | None = None
    """Height and width of the pictures; by default the font's own, 136."""
    background: str = "white"
    """A colour's name, or #rrggbb."""
    per_shard: int = 1000


def build(args: BuildEmoji) -> dict[str, int]:
    """Write the data set, whole or not at all; returns how many pictures each split has. InputError as usual."""
    _check(args)
    chosen = choose(glyphs(find_font(args.font)), args)
    splits = {
        "train": [e for e in chosen if not is_held_out(e.key, args.held_out)],
        "held_out": [e for e in chosen if is_held_out(e.key, args.held_out)],
    }
    aside = temporary_name(args.out)
    try:
        for split, emoji in splits.items():
            if emoji:
                _write(aside, split, emoji, args)
        rows = [
            {"key": e.key, "name": e.name, "kind": e.kind, "split": split}
            for split, emoji in splits.items()
            for e in emoji
        ]
        (aside / "emoji.json").write_text(json.dumps(rows, indent=0, ensure_ascii=False) + "\n", "utf-8")
        aside.rename(args.out)
    except OSError as error:
        raise cannot_write(args.out, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    kinds = Counter(e.kind for e in chosen)
    print(f"{len(chosen)} emoji in {args.out}: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
    sizes = {split: len(emoji) for split, emoji in splits.items()}
    print(f"{sizes['train']} to train with, {sizes['held_out']} held out")
    return sizes


def _check(args: BuildEmoji) -> None:
    check_new_folder(args.out)
    if not args.kinds or (args.count is not None and args.count < 1) or not 0 <= args.held_out < 1:
        raise InputError(
            f"--kinds {' '.join(args.kinds)} --count {args.count} --held-out {args.held_out}: expected a kind, at "
            "least 1, and a share below 1"
        )
    if (args.size is not None and args.size < 8) or args.per_shard < 1:
        raise InputError(f"--size {args.size} --per-shard {args.per_shard}: expected at least 8, and 1")


def choose(emoji: Sequence[Emoji], args: BuildEmoji) -> list[Emoji]:
    """Those of the wanted kinds, in the order of their code points. InputError where there are none."""
    fitting = [e for e in emoji if e.kind in args.kinds]
    if not fitting:
        raise InputError(f"the font has no emoji of --kinds {' '.join(args.kinds)}: ask for others")
    by_hash = sorted(fitting, key=lambda e: hashlib.sha256(e.key.encode()).digest())
    return sorted(by_hash[: args.count], key=lambda e: e.points)


def _write(root: Path, split: str, emoji: Sequence[Emoji], args: BuildEmoji) -> None:
    def samples() -> Iterator[Sample]:
        for e in emoji:
            yield e.key, {"png": _png(e, args), "txt": e.name.encode()}

    write_shards(root / "shards" / split, samples(), args.per_shard)
    folder = root / "folder" / split
    folder.mkdir(parents=True)
    for key, files in samples():
        for suffix, data in files.items():
            (folder / f"{key}.{suffix}").write_bytes(data)


def _png(emoji: Emoji, args: BuildEmoji) -> bytes:
    file = io.BytesIO()
    try:
        picture = on_background(emoji.picture, args.size, args.background)
    except ValueError as error:  # Pillow's, of a colour that it does not know
        raise InputError(f"--background {args.background!r}: {error}") from error
    picture.save(file, "PNG")
    return file.getvalue()


if __name__ == "__main__":
    run(lambda: build(parse(BuildEmoji, __doc__)))
