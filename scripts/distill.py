"""Distil a model into a student that draws in few calls.

The flags, with examples: --help, from toolkit/commands/distill_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("distill")

if __name__ == "__main__":
    run(main)
