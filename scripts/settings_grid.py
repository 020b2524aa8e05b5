"""Draw one caption with the values of one setting, or of two: a grid of pictures with the values on its edges.

The flags, with examples: --help, from toolkit/commands/settings_grid_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("settings_grid")

if __name__ == "__main__":
    run(main)
