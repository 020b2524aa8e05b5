"""Distil a model into a student that draws in few calls (docs/distillation.md).

examples:
    python scripts/distill.py --teacher shapes --out runs/guided
    python scripts/distill.py --teacher runs/guided --objective halving --student-steps 4 --out runs/four
    python scripts/distill.py --teacher runs/guided --objective consistency --out runs/consistent
    python scripts/distill.py --teacher runs/guided --objective halving --student-steps 4 --out runs/four --resume
    python scripts/distill.py --upsampler --teacher shapes --unguided --objective halving --out runs/upsampler
    python scripts/distill.py --teacher runs/photos --data photos/ --strengths 1 12 --out runs/photos-guided

With --upsampler the teacher is an upsampler; --upsampler --help has its further flags. The data are those that the
teacher learned from; its own config.json has its command.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from glide.training.distill_flags import Distill
from glide.utils.cli import parse as parse_flags
from upsampler.distill_flags import DistillUpsampler

UPSAMPLER = "--upsampler"


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[Distill | DistillUpsampler]:
    """The flags. InputError where they do not parse or fit."""
    words = list(sys.argv[1:] if argv is None else argv)
    large = UPSAMPLER in words
    rest = [word for word in words if word != UPSAMPLER]
    args = (
        parse_flags(DistillUpsampler, description, rest) if large else parse_flags(Distill, description, rest)
    )
    args.student.check()
    return (args,)
