"""Measure drawing from maps: are things where the map of a built-in scene has them, in the colours of the caption?

The flags, with examples: --help, from toolkit/commands/evaluate_conditions_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("evaluate_conditions")

if __name__ == "__main__":
    run(main)
