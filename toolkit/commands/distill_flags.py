"""Distil a model into a student that draws in few calls (docs/distillation.md).

examples:
    python scripts/distill.py --teacher shapes --out runs/guided
    python scripts/distill.py --teacher runs/guided --objective halving --student-steps 4 --out runs/four
    python scripts/distill.py --teacher runs/guided --objective consistency --out runs/consistent
    python scripts/distill.py --teacher runs/guided --objective halving --student-steps 4 --out runs/four --resume
    python scripts/distill.py --teacher runs/photos --data photos/ --strengths 1 12 --out runs/photos-guided

The data are those that the teacher learned from; its own config.json has its command.
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.distill_flags import Distill
from glide.utils.cli import parse as parse_flags


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[Distill]:
    """The flags. InputError where they do not parse or fit."""
    args = parse_flags(Distill, description, argv)
    args.student.check()
    return (args,)
