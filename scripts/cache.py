"""List, fetch and remove published models in the cache.

The flags, with examples: --help, from toolkit/commands/cache_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("cache")

if __name__ == "__main__":
    run(main)
