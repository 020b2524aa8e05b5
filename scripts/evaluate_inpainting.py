"""Measure inpainting: "a green star in the top left corner" into a masked corner of built-in scenes, by the oracle.

The flags, and examples: --help, and toolkit/commands/evaluate_inpainting_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import evaluate_inpainting_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.EvaluateInpainting, flags.__doc__, argv)
    from toolkit.commands.evaluate_inpainting import (
        evaluate_inpainting,  # torch, only once the flags are right
    )

    evaluate_inpainting(args)


if __name__ == "__main__":
    run(main)
