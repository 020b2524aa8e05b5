"""Measure an upsampler: PSNR on true small renderings of held-out scenes, beside bicubic and Lanczos.

The flags, and examples: --help, and toolkit/commands/evaluate_upsampler_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import evaluate_upsampler_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.EvaluateUpsampler, flags.__doc__, argv)
    from toolkit.commands.evaluate_upsampler import evaluate_upsampler  # torch, only once the flags are right

    evaluate_upsampler(args)


if __name__ == "__main__":
    run(main)
