"""`python -m toolkit sample ...`: the `glide` command without its entry point, for example under a launcher."""

import sys

from glide.utils.cli import run
from toolkit.commands.main import dispatch

if __name__ == "__main__":
    run(lambda: dispatch(sys.argv[1:], "python -m toolkit"))
