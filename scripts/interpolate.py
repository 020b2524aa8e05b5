"""Go from one picture to another, or from one caption to another, in steps: a strip of pictures and an animation.

examples:
    python scripts/interpolate.py --prompt "a red circle" --prompt "a blue circle" --out colours.png
    python scripts/interpolate.py --prompt "a star" --prompt "a heart" --mix predictions --frames 15 --out shapes.png
    python scripts/interpolate.py --image a.png --image b.png --out between.png
    python scripts/interpolate.py --image a.png --image b.png --method ddpm --strength 0.6 --out mixed.png
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands.interpolate_flags import Interpolate


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(Interpolate, __doc__, argv)
    args.check()
    from toolkit.commands.interpolate import interpolate  # torch, only once the flags are right

    interpolate(args)


if __name__ == "__main__":
    run(main)
