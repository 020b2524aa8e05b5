"""Measure bits per dimension of pictures under a model (a bound on the negative log-likelihood).

The flags, and examples: --help, and toolkit/commands/nll_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import nll_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.Nll, flags.__doc__, argv)
    from toolkit.commands.nll import nll  # torch, only once the flags are right

    nll(args)


if __name__ == "__main__":
    run(main)
