"""Measure inpainting: "a green star in the top left corner" into a masked corner of built-in scenes, by the oracle.

The flags, with examples: --help, from toolkit/commands/evaluate_inpainting_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("evaluate_inpainting")

if __name__ == "__main__":
    run(main)
