"""Draw pictures with a text- or class-conditional model.

The flags, with examples: --help, from toolkit/commands/sample_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("sample")

if __name__ == "__main__":
    run(main)
