"""Inpaint a region of a picture by a caption. Everything outside the mask stays as it is, bit for bit.

The flags, with examples: --help, from toolkit/commands/inpaint_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("inpaint")

if __name__ == "__main__":
    run(main)
