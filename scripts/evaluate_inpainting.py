"""Measure inpainting: "a green star in the top left corner" into a masked corner of built-in scenes, by the oracle.

examples:
    python scripts/evaluate_inpainting.py --model shapes
    python scripts/evaluate_inpainting.py --model runs/shapes-inpaint --scenes 300 --scale 2
    python scripts/evaluate_inpainting.py --model shapes --method replace --scenes 50 --steps 25
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from toolkit.commands.evaluate_inpainting import EvaluateInpainting, evaluate_inpainting

    evaluate_inpainting(parse(EvaluateInpainting, __doc__))


if __name__ == "__main__":
    run(main)
