"""Choose the length of a run's weight average after its training (post-hoc EMA, 2312.02696).

The flags, and examples: --help, and toolkit/commands/posthoc_ema_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import posthoc_ema_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.Posthoc, flags.__doc__, argv)
    from toolkit.commands.posthoc_ema import posthoc  # torch, only once the flags are right

    posthoc(args)


if __name__ == "__main__":
    run(main)
