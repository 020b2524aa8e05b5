"""Go from one picture to another, or from one caption to another, in steps: a strip of pictures and an animation.

The flags, with examples: --help, from toolkit/commands/interpolate_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("interpolate")

if __name__ == "__main__":
    run(main)
