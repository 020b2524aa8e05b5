"""Turn a published OpenAI checkpoint (ADM or GLIDE, a noisy classifier or CLIP; .pt) into a model folder.

The flags, with examples: --help, from toolkit/commands/convert_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("convert")

if __name__ == "__main__":
    run(main)
