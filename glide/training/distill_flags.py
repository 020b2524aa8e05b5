"""The flags of a distillation. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from glide.diffusion.samplers.registry import SPACINGS
from glide.networks.student_config import Objective
from glide.training.train_base_flags import FROZEN_FLAGS, TrainBase
from glide.utils.errors import InputError
from glide.utils.ranges import check_numbers

Hidden = tyro.conf.Suppress


@dataclass(frozen=True)
class StudentSettings:
    """Settings of a distillation besides those of any training."""

    teacher: str = "shapes"
    """The model to learn from, and to begin with: a folder, an embedded name or a hub id."""
    objective: Objective = "guidance"
    """guidance: one call for the two of classifier-free guidance, at any strength (2210.03142). halving: one step for
    --substeps of the teacher's (2202.00512). consistency: its own prediction at a less noisy timestep (2406.14548). The
    last two begin with a student of the first, where guidance is to stay in."""
    strengths: tuple[float, ...] = (1.0, 8.0)
    """The smallest and the largest strength of guidance that is learned; 1 is none. Of a teacher that receives the
    strength, its own."""
    unguided: bool = False
    """Learn no strength of guidance: the student is its teacher without guidance in fewer steps."""
    student_steps: int = 4
    """(halving) Steps of the student; (consistency) those that it draws with where none are asked for."""
    student_spacing: str = "trailing"
    """(halving) The spacing of these steps."""
    substeps: int = 2
    """(halving) Steps of the teacher for each step of the student: 2 halves them, as in the paper."""
    stages: int = 6
    """(consistency) Stages, over which r comes nearer to t; the steps are divided among them."""
    consistency_q: float = 2.0
    """(consistency) Factor by which each stage brings r nearer to t."""
    consistency_k: float = 8.0
    """(consistency) How much nearer to the picture r is at little noise."""
    consistency_b: float = 1.0
    """(consistency) Where little noise begins: at a noise ratio of about 1 / b."""

    def check(self) -> None:
        """InputError for numbers out of range, and an unknown spacing."""
        check_numbers(self)
        if len(self.strengths) != 2 or not self.strengths[0] <= 1.0 < self.strengths[1]:
            raise InputError(
                f"got --strengths {' '.join(f'{one:g}' for one in self.strengths)}, expected two, the first at most 1 "
                "(no guidance) and the second above it: give --strengths 1 8"
            )
        if self.student_spacing not in SPACINGS:
            raise InputError(
                f"got --student-spacing {self.student_spacing}, expected {' or '.join(SPACINGS)}: choose one"
            )


STUDENT_FLAGS = tuple(f"student.{name}" for name in StudentSettings.__dataclass_fields__)


@dataclass(frozen=True)
class StudentFlags(TrainBase):
    """The flags of a student in place of those of a network, which is its teacher's."""

    frozen_flags: ClassVar[tuple[str, ...]] = (*FROZEN_FLAGS, *STUDENT_FLAGS)

    student: Annotated[StudentSettings, tyro.conf.arg(name="")] = field(default_factory=StudentSettings)
    null_captions: float = 0.1
    """Share of examples that lose their caption or class."""
    preset: Annotated[str | None, Hidden] = None
    recipe: Annotated[str | None, Hidden] = None
    config: Annotated[Path | None, Hidden] = None
    show_config: Annotated[bool, Hidden] = False
    model: Annotated[Mapping[str, Any], Hidden] = field(default_factory=dict)
    init: str | None = None
    """Model to begin with in place of the teacher: a student of its, whose sizes are the same."""
    first_stage: Annotated[str | None, Hidden] = None
    image_encoder: Annotated[str | None, Hidden] = None
    text_encoder: Annotated[str | None, Hidden] = None
    embed_encoder: Annotated[bool, Hidden] = False
    inpaint: Annotated[bool, Hidden] = False
    unconditional: Annotated[bool, Hidden] = False
    channels: Annotated[int | None, Hidden] = None
    vocab_size: Annotated[int, Hidden] = 512
    self_condition: Annotated[bool, Hidden] = False


@dataclass(frozen=True)
class Distill(StudentFlags):
    """Settings of a distillation: those of a base model's training, without those of its network."""
