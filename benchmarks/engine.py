"""Speed of the networks against the machine's limit, and times of pictures and training steps, in one run.

The machine's own peak is measured first and last; each case runs in a process of its own, so that its peak of memory is
its own. The same work is done beside it in the original's way, and by glide_text2im, guided_diffusion and diffusers
where they are installed. Full-size networks have random weights, which take as long as trained ones.

examples:
    python benchmarks/engine.py --out benchmarks/RESULTS.md --overwrite
    python benchmarks/engine.py --cases base upsampler --dtype bfloat16 --profile
    python benchmarks/engine.py --cases embedded --batch-sizes 16 --beside
    python benchmarks/engine.py --cases cascade picture startup --base-steps 20
    python benchmarks/engine.py --cases base upsampler --batch-sizes 1 16 64 --dtype bfloat16 --compile
    python benchmarks/engine.py --size tiny --repeats 1
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measure.plan import Plan
from glide.utils.atomic_write import write_text
from glide.utils.cli import parse, run
from glide.utils.file_locks import check_free, write_beside


def main(argv: Sequence[str] | None = None) -> None:
    plan = parse(Plan, __doc__, argv)
    plan.check()
    if plan.out is not None:
        check_free(plan.out, plan.overwrite)
    from benchmarks.measure.suite import measure  # torch, only once the flags are right

    report = measure(plan, say=lambda line: print(line, flush=True))
    text = report.markdown()
    print(f"\n{text}")
    if plan.out is not None:
        write_beside(plan.out, partial(write_text, text=text, replace=plan.overwrite))


if __name__ == "__main__":
    run(main)
