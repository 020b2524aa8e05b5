"""Compare samplers: captions drawn right and distance to a long run, against network calls, as tables and a plot.

The flags, with examples: --help, from toolkit/commands/solver_sweep_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("solver_sweep")

if __name__ == "__main__":
    run(main)
