"""Draw pictures with a text- or class-conditional model.

examples:
    python scripts/sample.py --guidance cfg --scale 3
    python scripts/sample.py --prompt "a large red circle to the left of a small blue square" --num-samples 4 --grid
    python scripts/sample.py --prompt "three green stars" --sampler ddpm --respacing 100 --seed 7 --gif
    python scripts/sample.py --prompt "a red ring" --sampler dpmpp-2m --spacing log-snr --steps 20
    python scripts/sample.py --guidance apg:5 --guidance pag:1@200-800 --rescale 0.5
    python scripts/sample.py --prompt "a white ring above a purple cross" --size 256 --upsample-temp 0.997
    python scripts/sample.py --like outputs/00000.png --scale 5
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import run
from toolkit.commands.sample_flags import parse


def main(argv: Sequence[str] | None = None) -> None:
    args, recipe = parse(argv, __doc__)
    from toolkit.commands.sample import sample
    from toolkit.pipelines.parts import UPSAMPLING  # torch, only once the flags are right

    sample(args, recipe, UPSAMPLING)


if __name__ == "__main__":
    run(main)
