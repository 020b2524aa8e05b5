"""Measure prompt fidelity: draw held-out captions of the built-in scenes, and let the oracle judge them.

The flags, with examples: --help, from toolkit/commands/evaluate_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("evaluate")

if __name__ == "__main__":
    run(main)
