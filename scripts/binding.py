"""Measure which facts of its captions a model of the built-in scenes uses, and at which noise levels.

The flags, and examples: --help, and toolkit/commands/binding_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import binding_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.Bind, flags.__doc__, argv)
    from toolkit.commands.binding import bind  # torch, only once the flags are right

    bind(args)


if __name__ == "__main__":
    run(main)
