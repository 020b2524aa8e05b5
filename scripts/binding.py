"""Measure which facts of its captions a model of the built-in scenes uses, and at which noise levels.

The flags, with examples: --help, from toolkit/commands/binding_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("binding")

if __name__ == "__main__":
    run(main)
