"""Measure how much of its captions a model draws: held-out captions of the built-in scenes, judged by the oracle.

examples:
    python scripts/evaluate.py --model shapes
    python scripts/evaluate.py --model runs/shapes --captions 200 --kinds one --scales 3 --steps 25
    python scripts/evaluate.py --model shapes --scales 3 --upsampler shapes
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from toolkit.commands.evaluate import Evaluate, evaluate
    from toolkit.pipelines.parts import UPSAMPLING

    evaluate(parse(Evaluate, __doc__), UPSAMPLING)


if __name__ == "__main__":
    run(main)
