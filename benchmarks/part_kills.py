"""Draw a list of captions in parts, each killed once after a random picture and run again, beside an undisturbed run.

python benchmarks/part_kills.py --captions 2000 --parts 8 --steps 2 --out outputs/part-kills

Prints how many rows are there once, and how many pictures and recipes are those of the undisturbed run, bit for bit.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glide.shapes.dataset import held_out_scenes
from glide.utils.cli import fail, parse, run
from glide.utils.file_locks import check_new_folder
from glide.utils.parts import Part
from glide.utils.printable import say

SAMPLE = Path(__file__).resolve().parents[1] / "scripts/sample.py"


@dataclass(frozen=True)
class PartKills:
    """The flags."""

    captions: int = 2000
    parts: int = 8
    steps: int = 2
    """Sampling steps of each picture."""
    model: str = "shapes"
    seed: int = 0
    """Seed of the random pictures."""
    out: Path = Path("outputs/part-kills")


def main() -> None:
    args = parse(PartKills, __doc__)
    check_new_folder(args.out)
    args.out.mkdir(parents=True)
    captions = args.out / "captions.txt"
    captions.write_text("\n".join(scene.caption for scene in held_out_scenes(args.captions, seed=args.seed)))
    if started(args, captions, "whole", 1, 1).wait():
        fail("the undisturbed run failed")
    rng, killed = random.Random(args.seed), 0
    for part in range(1, args.parts + 1):
        process = started(args, captions, "parts", part, args.parts)
        rows = Part(part, args.parts).of_rows(args.captions)
        last = rows.start + rng.randrange(len(rows))
        while process.poll() is None and not (args.out / f"parts/{last:08d}.png").exists():
            time.sleep(0.002)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            killed += 1
        process.wait()
        if started(args, captions, "parts", part, args.parts).wait():
            fail(f"part {part} failed when it was run again")
    whole, parts = bytes_in(args.out / "whole"), bytes_in(args.out / "parts")
    equal = sum(parts.get(name) == data for name, data in whole.items())
    say(
        f"{killed} of {args.parts} parts killed; {len(parts)} pictures of {args.captions} captions, of which {equal} "
        "are the bytes of the undisturbed run",
        result=True,
    )
    if set(parts) != set(whole) or equal != args.captions:
        fail("the parts are not the undisturbed run")


def bytes_in(folder: Path) -> dict[str, bytes]:
    """The pictures of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def started(args: PartKills, captions: Path, folder: str, part: int, parts: int) -> subprocess.Popen[bytes]:
    """A process that draws a part into a folder."""
    flags = ["--prompts-file", captions, "--part", f"{part}/{parts}", "--out", args.out / folder, "--quiet"]
    settings = ["--model", args.model, "--steps", args.steps]
    return subprocess.Popen([sys.executable, SAMPLE, *map(str, [*flags, *settings])])


if __name__ == "__main__":
    run(main)
