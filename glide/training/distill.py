"""The distillation of a model, from its flags to the student's folder."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import torch

from glide.checkpoints.load import load_model
from glide.diffusion.timestep_spacing import space_timesteps
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.student_config import StudentConfig
from glide.training.distill_flags import StudentSettings
from glide.training.distillation import (
    ConsistencyTuning,
    Distillation,
    GuidanceDistillation,
    StepHalving,
)
from glide.training.model_config import ModelKind
from glide.training.objectives import DiffusionObjective
from glide.training.teacher import Teacher
from glide.training.train_base import MakeTask
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError

A = TypeVar("A", bound=TrainBase)


def distillation(args: A, student: StudentSettings, kind: ModelKind) -> tuple[A, ModelKind, MakeTask]:
    """The flags, the kind and the task by which `train_base` trains a student of a model of that kind.

    InputError for settings that do not fit the teacher.
    """
    student.check()
    teacher = load_model(student.teacher, places=kind.places)
    config = student_config(student, teacher.config)

    def config_of(own: ModelConfig) -> ModelConfig:
        own = kind.config(own)
        # deterministic steps use no learned variance, and it is not trained
        fixed = "fixed_small" if own.process.variance == "learned" else own.process.variance
        process = dataclasses.replace(own.process, variance=fixed)
        return dataclasses.replace(own, student=config, process=process)

    def make_task(settled: TrainBase, objective: DiffusionObjective, model: Model) -> Distillation:
        dtype = getattr(torch, settled.train.dtype)
        ready = Teacher(teacher.to(model.device), dtype)
        return task_of(student, objective, ready, config, settled.train.steps)

    inpaint = teacher.config.inpaint
    asked = dataclasses.replace(args, init=args.init or student.teacher, inpaint=inpaint)
    return asked, dataclasses.replace(kind, config=config_of), make_task


def student_config(student: StudentSettings, teacher: ModelConfig) -> StudentConfig:
    """The student's part of its configuration. InputError for a teacher that has no guidance to distil."""
    before = teacher.student or StudentConfig()
    strengths = before.strengths or student.strengths
    if student.unguided:
        strengths = ()
    if strengths and not before.strengths and not _has_null(teacher):
        raise InputError(
            f"got the teacher {student.teacher}, which has no null condition, expected one that was trained with "
            "--null-captions: give that one, or --unguided for fewer steps without guidance"
        )
    if student.objective == "guidance":
        if before.strengths or not strengths:
            raise InputError(
                f"got --objective guidance for {student.teacher}, which needs one call already, expected a model that "
                "is guided by two: give --objective halving or consistency"
                if before.strengths
                else "got --objective guidance with --unguided, expected one or the other: leave --unguided out"
            )
        return dataclasses.replace(before, objective="guidance", strengths=strengths)
    halving = student.objective == "halving"
    return StudentConfig(
        student.objective,
        strengths,
        student.student_steps,
        "ddim" if halving else "consistency",
        student.student_spacing,
    )


def task_of(
    student: StudentSettings,
    objective: DiffusionObjective,
    teacher: Teacher,
    config: StudentConfig,
    steps: int,
) -> Distillation:
    """The task of a distillation. steps: of the training. InputError for more steps than the process has."""
    strengths = config.strengths
    if student.objective == "guidance":
        return GuidanceDistillation(objective, teacher, strengths)
    if student.objective == "halving":
        kept = space_timesteps(teacher.model.process, str(student.student_steps), student.student_spacing)
        return StepHalving(objective, teacher, strengths, tuple(kept), student.substeps)
    return ConsistencyTuning(
        objective,
        teacher,
        strengths,
        max(steps // student.stages, 1),
        student.stages,
        student.consistency_q,
        student.consistency_k,
        student.consistency_b,
    )


def _has_null(config: ModelConfig) -> bool:
    return config.reads_captions or (config.num_classes > 0 and config.null_class)
