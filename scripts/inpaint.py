"""Paint a region of a picture anew, as a caption says. Everything outside the mask stays as it is, bit for bit.

In a mask's file WHITE is painted anew and black stays. Without a mask what is transparent in the picture is painted.

examples:
    python scripts/inpaint.py --image photo.png --mask mask.png --prompt "a red ring" --out result.png
    python scripts/inpaint.py --image photo.png --box 0,0,32,32 --prompt "a green star in the top left corner" \\
        --num-samples 4 --out choices.png
    python scripts/inpaint.py --image cutout.png --method repaint --steps 25 --resamplings 5 --out filled.png
    python scripts/inpaint.py --image photo.png --mask mask.png --invert-mask --method replace --out other.png
    python scripts/inpaint.py --like result.png --trust-recipe --seed 1 --out another.png
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.inpaint_flags import parse


def main(argv: Sequence[str] | None = None) -> None:
    args, recipe = parse(argv, __doc__)
    from toolkit.commands.inpaint import inpaint_file
    from toolkit.pipelines.parts import UPSAMPLING  # torch, only once the flags are right

    inpaint_file(args, UPSAMPLING, recipe)


if __name__ == "__main__":
    run(main)
