"""Compare two sets of pictures, or a model and its data: distances with intervals, and memorisation.

The flags, with examples: --help, from toolkit/commands/evaluate_images_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("evaluate_images")

if __name__ == "__main__":
    run(main)
