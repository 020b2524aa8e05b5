"""Measure an upsampler: PSNR on true small renderings of held-out scenes, beside bicubic and Lanczos.

The flags, with examples: --help, from toolkit/commands/evaluate_upsampler_flags.py.
"""

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.main import script

main = script("evaluate_upsampler")

if __name__ == "__main__":
    run(main)
