"""Export a model for another library: as a pipeline of diffusers.

The flags, with examples: --help, from toolkit/commands/export_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("export")

if __name__ == "__main__":
    run(main)
