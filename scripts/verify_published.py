"""Check published models: fetch them, draw fixed captions and classes, write hashes and pictures.

The flags, with examples: --help, from toolkit/commands/verify_published_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("verify_published")

if __name__ == "__main__":
    run(main)
