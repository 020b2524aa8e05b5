"""Encode and decode pictures: PSNR, SSIM and the worst files of an autoencoder, with pairs side by side.

The flags, with examples: --help, from toolkit/commands/reconstruct_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("reconstruct")

if __name__ == "__main__":
    run(main)
