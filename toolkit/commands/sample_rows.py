"""Draw one part of a long list of captions: pictures named by their number, in a folder or in WebDataset shards.

Pictures that are there and whole are skipped, so to run a part again is to go on with it, and any launcher that runs
a command many times is an engine. The parts of a list share a folder and its manifest.

Shape letters: N pictures of a network call, H W pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glide.checkpoints.provenance import environment
from glide.data.shards.tar_index import scan_shard
from glide.data.shards.writer import write_shard
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.utils.atomic_write import write_text
from glide.utils.errors import InputError, NameTaken
from glide.utils.file_locks import FolderLock, ready_folder
from glide.utils.images import save_png, to_uint8
from glide.utils.json_files import read_json
from glide.utils.parts import Part
from glide.utils.printable import say
from glide.utils.progress import progress
from toolkit.commands.prompt_files import Row
from toolkit.commands.upscale_flags import size_of
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe import with_stage
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import Upscaler

MANIFEST = "manifest.json"
PER_SHARD = 1000
PNG_END = b"IEND\xaeB`\x82"


@dataclass(frozen=True)
class Drawing:
    """All pictures of a list, of which a part is drawn. A picture's number decides its seed and its name."""

    run: Pipeline
    """With the call size of the whole list."""
    settings: SamplingConfig
    upscaler: Upscaler | None
    rows: Sequence[Row]
    each: int
    """Pictures of each row."""
    seed: int
    given: KnownPixels
    """Known pixels of all pictures."""
    entries: dict[str, Any]
    """Of these, for recipes."""

    @property
    def total(self) -> int:
        return len(self.rows) * self.each

    def request(self, number: int) -> ImageRequest:
        """The request of one picture."""
        row = self.rows[number // self.each]
        seed = self.seed + number if row.seed is None else row.seed + number % self.each
        return ImageRequest(seed, row.caption, row.label, self.given)

    def draw(self, first: int, last: int) -> Iterator[tuple[int, Any, dict[str, Any]]]:
        """Pictures `first` to `last`, uint8 [H,W,C] each with its number and recipe; all are of one network call."""
        size = self.run.call_size
        assert size is not None and first // size == last // size
        requests = [self.request(number) for number in range(first, last + 1)]
        for step in self.run.draw(requests, self.settings, place=first % size):
            drawn = step
        pixels = to_uint8(drawn.x)
        for i, (number, request) in enumerate(zip(range(first, last + 1), requests, strict=True)):
            recipe = self.run.recipe(request, self.settings, number % size) | self.entries
            image = pixels[i]
            if self.upscaler is not None:
                image = to_uint8(self.upscaler.enlarged(image, request))[0]
                recipe = with_stage(recipe, size_of(image[None]), self.upscaler.recipe(request))
            yield number, image, recipe

    def manifest(self) -> dict[str, Any]:
        """The settings that all parts of a list share, JSON-able."""
        recipe = self.run.recipe(self.request(0), self.settings, 0) | self.entries
        if self.upscaler is not None:
            recipe = with_stage(recipe, recipe.get("size", 0), self.upscaler.recipe(self.request(0)))
        apart = {"prompt", "label", "class", "seed", "place", *environment(self.run.device)}
        rows = json.dumps([[row.caption, row.label, row.seed] for row in self.rows])
        return {
            "pictures": self.total,
            "num_samples": self.each,
            "captions": hashlib.sha256(rows.encode()).hexdigest(),
            "seed": self.seed,
            "recipe": {name: value for name, value in recipe.items() if name not in apart},
        }


def draw_part(drawing: Drawing, part: Part, out: Path, shards: bool, per_shard: int = PER_SHARD) -> int:
    """Draw the pictures of a part that are not there, and write them; returns how many were drawn.

    shards: write WebDataset shards of `per_shard` pictures, in place of one file each. InputError for a folder of
    another list or other settings, and where another process draws the same part.
    """
    ready_folder(out)
    _check_manifest(out, drawing.manifest() | ({"parts": part.of, "per_shard": per_shard} if shards else {}))
    mine = part.of_rows(drawing.total)
    work = out / f"{part.name}-unpacked" if shards else out
    with FolderLock(out / f"{part.name}.lock", f"part {part} in {out} is drawn by {{holder}}: wait for it"):
        packs = _packs(mine, per_shard, out, part) if shards else [(mine, None)]
        todo = [(numbers, tar) for numbers, tar in packs if tar is None or not _is_packed(tar, numbers)]
        missing = [number for numbers, _ in todo for number in numbers if not _is_whole(work / _name(number))]
        drawn = 0
        with progress(total=len(missing), desc=f"part {part}", unit="picture") as bar:
            for numbers, tar in todo:
                for number, image, recipe in _drawn(drawing, numbers, work):
                    save_png(work / _name(number), image, recipe)
                    drawn += 1
                    bar.update()
                if tar is not None:
                    _pack(drawing, numbers, work, tar)
        if shards and work.exists() and not any(work.iterdir()):
            work.rmdir()
    there = len(mine) - drawn
    say(
        f"part {part}: {drawn} picture{'s' * (drawn != 1)} drawn, {there} there before, in {out.resolve()} "
        f"(numbers {mine.start} to {mine.stop - 1} of {drawing.total})"
    )
    return drawn


def _drawn(drawing: Drawing, numbers: range, work: Path) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """The missing ones of these pictures, network call by network call.

    Within a call those between two missing ones are drawn as well: places in a call are as in an undisturbed run.
    """
    size = drawing.run.call_size
    assert size is not None
    for start in range(numbers.start - numbers.start % size, numbers.stop, size):
        call = range(max(start, numbers.start), min(start + size, numbers.stop))
        missing = [number for number in call if not _is_whole(work / _name(number))]
        if missing:
            wanted = set(missing)
            yield from (one for one in drawing.draw(missing[0], missing[-1]) if one[0] in wanted)


def _packs(mine: range, per_shard: int, out: Path, part: Part) -> list[tuple[range, Path]]:
    """The numbers of each shard of a part, and its path."""
    starts = range(mine.start, mine.stop, per_shard)
    return [
        (range(start, min(start + per_shard, mine.stop)), out / f"{part.name}-{index:05d}.tar")
        for index, start in enumerate(starts)
    ]


def _pack(drawing: Drawing, numbers: range, work: Path, tar: Path) -> None:
    """Write the pictures of a shard, all of which are there, and remove their own files."""

    def sample(number: int) -> tuple[str, dict[str, bytes]]:
        caption = drawing.rows[number // drawing.each].caption
        picture = (work / _name(number)).read_bytes()
        return f"{number:08d}", {"png": picture, "txt": caption.encode()}

    write_shard(tar, map(sample, numbers), replace=True)
    for number in numbers:
        (work / _name(number)).unlink()


def _is_packed(tar: Path, numbers: range) -> bool:
    """True for a shard that holds exactly these pictures, whole."""
    if not tar.exists():
        return False
    try:
        index = scan_shard(str(tar))
    except InputError:
        return False
    return not index.unusable and index.names == [f"{number:08d}.png" for number in numbers]


def _is_whole(path: Path) -> bool:
    """True for a PNG that ends as it should."""
    try:
        with open(path, "rb") as file:
            file.seek(-len(PNG_END), 2)
            return file.read() == PNG_END
    except OSError:
        return False


def _name(number: int) -> str:
    return f"{number:08d}.png"


def _check_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest of a new folder. InputError where there is one of another list or other settings."""
    path = out / MANIFEST
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    try:
        write_text(path, text, replace=False)
    except NameTaken:
        found = read_json(str(path))
        changed = [name for name, value in json.loads(text).items() if not _has(found, name, value)]
        if changed:
            raise InputError(
                f"{out} holds the pictures of another run (other {', '.join(changed)}), expected the same captions and "
                "settings for all parts: give another folder"
            ) from None


def _has(found: Any, name: str, value: Any) -> bool:
    return isinstance(found, dict) and found.get(name) == value
