"""Train a noisy CLIP, whose gradient steers a diffusion model to a caption (CLIP guidance, 2112.10741).

The flags, with examples: --help, from toolkit/commands/train_clip_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_clip")

if __name__ == "__main__":
    run(main)
