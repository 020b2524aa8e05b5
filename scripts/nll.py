"""Bits per dimension of pictures under a model (a bound on the negative log-likelihood).

examples:
    python scripts/nll.py --model shapes --images 32 --respacing 100
    python scripts/nll.py --model runs/photos --data photos/ --out nll.json
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from toolkit.evaluation.bits_per_dim import Nll, nll

    nll(parse(Nll, __doc__))


if __name__ == "__main__":
    run(main)
