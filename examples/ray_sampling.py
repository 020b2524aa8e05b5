"""Draw a long list of captions on a Ray cluster: actors keep the models in memory, and draw one part after the other.

    python examples/ray_sampling.py --parts 64 --actors 8 --gpus 1 -- --prompts-file captions.txt --out /shared/million
    python examples/ray_sampling.py --parts 8 --actors 2 --cpus 0.5 -- --prompts-file captions.txt --to-shards shards

What stands after `--` are flags of sample.py; all machines must see its files and folders. Pictures that are there are
kept, so after a crash the same command draws the rest. On one machine, --actors times --cpus must stay below its
processors: Ray needs some for itself, and waits for ever where there are none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.numbers import real, whole
from glide.utils.parts import Part
from glide.utils.printable import say
from toolkit.commands.sample_flags import Sample
from toolkit.commands.sample_flags import parse as parse_sample
from toolkit.commands.sample_list import draw_list_part, load_drawing


@dataclass(frozen=True)
class RaySampling:
    """The flags."""

    parts: int = 8
    """Parts of the list. A part is what an actor takes at a time, and what is tried again where one fails."""
    actors: int = 2
    """Processes that draw, each with the models."""
    cpus: float = 0.5
    """Processors that Ray sets aside for each."""
    gpus: float = 0.0
    """GPUs of each."""
    address: str | None = None
    """Of a cluster; by default $RAY_ADDRESS, else Ray is started on this machine."""


class PartDrawer:
    """The models in an actor's memory."""

    def __init__(self, words: Sequence[str], parts: int) -> None:
        self.args, self.parts = sample_flags(words), parts
        self.drawing = load_drawing(self.args)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Draw parts, by their numbers from 0; returns how many pictures each took."""
        numbers = [int(number) for number in batch["id"]]
        drawn = [draw_list_part(self.args, self.drawing, Part(one + 1, self.parts)) for one in numbers]
        return {"part": numbers, "drawn": drawn}


def sample_flags(words: Sequence[str]) -> Sample:
    """The flags after `--`. InputError where they name no list, or a part of one."""
    args, _ = parse_sample(list(words), None)
    if args.prompts_file is None or args.part is not None:
        raise InputError(
            "got no --prompts-file or a --part after --, expected a list of captions, whose parts Ray draws: give "
            "-- --prompts-file captions.txt"
        )
    return args


def main(argv: Sequence[str]) -> None:
    """Draw the list. InputError for flags that cannot be used."""
    split = list(argv).index("--") if "--" in argv else len(argv)
    args, words = parse(RaySampling, __doc__, argv[:split]), [*argv[split + 1 :]]
    whole(args.parts, "--parts", 1)
    whole(args.actors, "--actors", 1)
    real(args.cpus, "--cpus", 0.01)
    real(args.gpus, "--gpus", 0)
    sample_flags(words).check()
    try:
        import ray
    except ImportError:
        raise InputError("got no package ray, expected it: pip install 'glide-toolkit[ray]'") from None
    ray.init(args.address, ignore_reinit_error=True)
    numbers = ray.data.range(args.parts, override_num_blocks=args.parts)
    done = numbers.map_batches(
        PartDrawer,
        fn_constructor_args=(words, args.parts),
        batch_size=1,
        concurrency=args.actors,
        num_cpus=args.cpus,
        num_gpus=args.gpus or None,
    )
    rows = done.take_all()
    say(f"{sum(row['drawn'] for row in rows)} pictures drawn in {len(rows)} parts", result=True)


if __name__ == "__main__":
    run(lambda: main(sys.argv[1:]))
