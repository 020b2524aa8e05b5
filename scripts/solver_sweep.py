"""Compare solvers: captions drawn right and distance to a long run, against network calls, as tables and a plot.

examples:
    python scripts/solver_sweep.py --model shapes
    python scripts/solver_sweep.py --solver heun@karras --solver dpmpp-2m@log-snr --solver unipc --calls 8 12 16 20
    python scripts/solver_sweep.py --solver ddpm:250 --solver dpmpp-2m-sde --captions 500 --no-plot
"""

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main() -> None:
    from toolkit.evaluation.sampler_sweep import SolverSweep, solver_sweep

    solver_sweep(parse(SolverSweep, __doc__))


if __name__ == "__main__":
    run(main)
