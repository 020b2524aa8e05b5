"""Choose the length of a run's weight average after its training (post-hoc EMA, 2312.02696).

examples:
    python scripts/train_base.py --data shapes:one --ema-snapshots 0.05 0.1 --steps 3000 --out runs/one
    python scripts/posthoc_ema.py --run runs/one --sigma-rel 0.07 --out runs/one-007
    python scripts/posthoc_ema.py --run runs/one --sigma-rel 0.15 --step 2000 --out runs/one-015

It works for classifiers and CLIPs too.
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from glide.training.posthoc_ema_snapshots import Posthoc, posthoc

    posthoc(parse(Posthoc, __doc__))


if __name__ == "__main__":
    run(main)
