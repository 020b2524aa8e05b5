"""Compare guidances: the share of captions drawn right against the diversity of the pictures, as a table and a plot.

The flags, and examples: --help, and toolkit/commands/guidance_sweep_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import guidance_sweep_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.Sweep, flags.__doc__, argv)
    from toolkit.commands.guidance_sweep import sweep  # torch, only once the flags are right

    sweep(args)


if __name__ == "__main__":
    run(main)
