"""Serve the page and the images interface on this machine.

The flags, with examples: --help, from toolkit/commands/serve_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("serve")

if __name__ == "__main__":
    run(main)
