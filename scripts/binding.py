"""Which facts of its captions a model of the built-in scenes uses, and at which noise levels.

examples:
    python scripts/binding.py --model shapes
    python scripts/binding.py --model runs/one --kinds one --timesteps 950 850 700 500 --out binding.json
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from toolkit.evaluation.attribute_binding import Bind, bind

    bind(parse(Bind, __doc__))


if __name__ == "__main__":
    run(main)
