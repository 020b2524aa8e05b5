"""Compare guidances: the share of captions drawn right against the diversity of the pictures, as a table and a plot.

The flags, with examples: --help, from toolkit/commands/guidance_sweep_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("guidance_sweep")

if __name__ == "__main__":
    run(main)
