"""Compare guidances: the share of captions drawn right against the diversity of the pictures, as a table and a plot.

examples:
    python scripts/guidance_sweep.py --model shapes
    python scripts/guidance_sweep.py --guidance cfg --guidance cfg@200-700 --guidance apg --scales 2 3 5 --captions 500
    python scripts/guidance_sweep.py --guidance none --guidance cfg:3+pag:1 --guidance cfg:3+cads:0.1 --no-plot
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from toolkit.evaluation.guidance_sweep import Sweep, sweep

    sweep(parse(Sweep, __doc__))


if __name__ == "__main__":
    run(main)
