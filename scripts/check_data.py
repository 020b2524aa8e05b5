"""Check a data set: what is usable, what is broken and why, how large the pictures are, and a captioned contact sheet.

The flags, with examples: --help, from toolkit/commands/check_data_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("check_data")

if __name__ == "__main__":
    run(main)
