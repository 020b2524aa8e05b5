"""Enlarge pictures with an upsampler: four times, or whatever it was trained for.

examples:
    python scripts/upsample.py drawing.png --prompt "a red ring on a white background" --out outputs/large.png
    python scripts/upsample.py drawings/ --out outputs/enlarged --overwrite
    python scripts/upsample.py drawing.png --steps 10 --temp 0.997 --noise 0.1

Pictures larger than those the model was trained with are drawn in overlapping tiles.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands.upsample_flags import Upsample


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(Upsample, __doc__, argv)
    from toolkit.commands.upsample import upsample
    from toolkit.pipelines.parts import UPSAMPLING  # torch, only once the flags are right

    upsample(args, UPSAMPLING)


if __name__ == "__main__":
    run(main)
