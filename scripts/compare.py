"""Compare the pictures of several models by people: a page that shows pairs blind, and the analysis of the answers.

The flags, with examples: --help, from toolkit/commands/compare_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("compare")

if __name__ == "__main__":
    run(main)
