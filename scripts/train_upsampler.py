"""Train an upsampler: from a low-resolution picture, and a caption or a class, to one four times as high and wide.

The flags, with examples: --help, from toolkit/commands/train_upsampler_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_upsampler")

if __name__ == "__main__":
    run(main)
