"""Train a text- or class-conditional diffusion model.

The flags, with examples: --help, from toolkit/commands/train_base_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_base")

if __name__ == "__main__":
    run(main)
