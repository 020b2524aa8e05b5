"""Compare samplers: captions drawn right and distance to a long run, against network calls, as tables and a plot.

The flags, and examples: --help, and toolkit/commands/solver_sweep_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import solver_sweep_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.SolverSweep, flags.__doc__, argv)
    from toolkit.commands.solver_sweep import solver_sweep  # torch, only once the flags are right

    solver_sweep(args)


if __name__ == "__main__":
    run(main)
