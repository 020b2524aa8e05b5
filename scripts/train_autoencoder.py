"""Train an autoencoder, the first stage of latent diffusion.

The flags, with examples: --help, from toolkit/commands/train_autoencoder_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_autoencoder")

if __name__ == "__main__":
    run(main)
