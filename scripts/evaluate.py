"""Measure prompt fidelity: draw held-out captions of the built-in scenes, and let the oracle judge them.

The flags, and examples: --help, and toolkit/commands/evaluate_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import evaluate_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.Evaluate, flags.__doc__, argv)
    from toolkit.commands.evaluate import evaluate  # torch, only once the flags are right

    evaluate(args)


if __name__ == "__main__":
    run(main)
