"""Enlarge pictures with an upsampler: four times, or whatever it was trained for.

The flags, with examples: --help, from toolkit/commands/upsample_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("upsample")

if __name__ == "__main__":
    run(main)
