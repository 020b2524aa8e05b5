"""Train a prior: from a caption to the embedding of a picture.

The flags, with examples: --help, from toolkit/commands/train_prior_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_prior")

if __name__ == "__main__":
    run(main)
