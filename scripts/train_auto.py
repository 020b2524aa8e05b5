"""Train a model on pictures of one's own, all of it by one command.

The flags, with examples: --help, from toolkit/commands/train_auto_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_auto")

if __name__ == "__main__":
    run(main)
