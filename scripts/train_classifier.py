"""Train a noisy classifier, whose gradient steers a diffusion model to a class (classifier guidance, 2105.05233).

The flags, with examples: --help, from toolkit/commands/train_classifier_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("train_classifier")

if __name__ == "__main__":
    run(main)
