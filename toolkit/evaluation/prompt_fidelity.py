"""Prompt fidelity of a model of the built-in scenes: the oracle judges its pictures fact by fact."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import Scene
from glide.shapes.oracle import Oracle
from glide.shapes.scene import FACT_KINDS, KINDS
from glide.utils.atomic_write import write_text
from glide.utils.images import to_uint8
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

EVERYTHING = "all facts"


@dataclass
class Tally:
    """Right and asked, by (kind of scene, kind of fact); "all facts" counts whole captions."""

    counts: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def add(self, scene: str, fact: str, right: bool) -> None:
        for kind in (scene, "any"):
            count = self.counts[kind, fact]
            count[0] += right
            count[1] += 1

    def share(self, scene: str, fact: str = EVERYTHING) -> float:
        """Share right, from 0 to 1; NaN where nothing was asked."""
        right, asked = self.counts.get((scene, fact), (0, 0))
        return right / asked if asked else float("nan")


@dataclass(frozen=True)
class Judged:
    """A drawn picture, uint8 [H,W,3], its scene, and whether the whole caption holds."""

    scene: Scene
    pixels: Tensor
    right: bool


def judge_model(
    pipe: Pipeline,
    scenes: Sequence[Scene],
    settings: SamplingConfig,
    tally: Tally,
    batch_size: int = 32,
    seed: int = 0,
) -> Iterator[Judged]:
    """Draw each scene's caption (picture i with seed `seed + i`), judge it and add it to `tally`; yields each."""
    oracle = Oracle()
    for start in range(0, len(scenes), batch_size):
        part = scenes[start : start + batch_size]
        pictures = [ImageRequest(seed + start + i, scene.caption) for i, scene in enumerate(part)]
        for step in pipe.draw(pictures, settings):
            last = step
        for scene, pixels in zip(part, to_uint8(last.x), strict=True):
            yield judge(oracle, scene, pixels, tally)


def judge(oracle: Oracle, scene: Scene, pixels: Tensor, tally: Tally) -> Judged:
    """Judge a picture of the scene's caption, uint8 [H,W,3], and add it to `tally`."""
    judgement = oracle.judge(pixels.numpy(), scene.facts)
    for fact, right in judgement.verdicts:
        tally.add(scene.kind, fact.kind, right)
    tally.add(scene.kind, EVERYTHING, judgement.all_right)
    return Judged(scene, pixels, judgement.all_right)


def table(tallies: dict[str, Tally]) -> str:
    """One row for each named tally and kind of scene; percent right of all facts together and of each kind of fact."""
    columns = (EVERYTHING, *FACT_KINDS)
    lines = [" | ".join(["| run", "scenes", "captions", *columns]) + " |", "|---" * (3 + len(columns)) + "|"]
    for name, tally in tallies.items():
        for scene in (*KINDS, "any"):
            if (scene, EVERYTHING) not in tally.counts:
                continue
            shares = [tally.share(scene, column) for column in columns]
            cells = ["-" if share != share else f"{100 * share:.1f}" for share in shares]
            asked = tally.counts[scene, EVERYTHING][1]
            lines.append(" | ".join([f"| {name}", scene, str(asked), *cells]) + " |")
    return "\n".join(lines)


def write_csv(path: Path, tallies: dict[str, Tally]) -> None:
    """The same numbers, one line for each run, kind of scene and kind of fact."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["run", "scene", "fact", "right", "asked"])
    for name, tally in tallies.items():
        for (scene, fact), (right, asked) in sorted(tally.counts.items()):
            writer.writerow([name, scene, fact, right, asked])
    write_text(path, text.getvalue())
