"""Choose the length of a run's weight average after its training (post-hoc EMA, 2312.02696).

The flags, with examples: --help, from toolkit/commands/posthoc_ema_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("posthoc_ema")

if __name__ == "__main__":
    run(main)
