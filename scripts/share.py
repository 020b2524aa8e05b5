"""Share a trained model: its files, without checkpoints and local paths, and a model card, on the hub or as a zip.

The flags, with examples: --help, from toolkit/commands/share_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("share")

if __name__ == "__main__":
    run(main)
