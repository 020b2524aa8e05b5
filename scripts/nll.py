"""Measure bits per dimension of pictures under a model (a bound on the negative log-likelihood).

The flags, with examples: --help, from toolkit/commands/nll_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("nll")

if __name__ == "__main__":
    run(main)
