"""Classifier-free guidance within the one call of a distilled model, which receives its strength (2210.03142).

Shape letters: N batch, E width of the time embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from guidance.base import Guidance
from guidance.entry import Interval

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.networks.config import ModelConfig
    from guidance.context import GuidanceInputs


@dataclass(frozen=True, eq=False)
class StudentGuidance(Guidance):
    """Gives a student the strength of guidance as an input: there is no second prediction to contrast.

    InputError for a strength that it was not trained on.
    """

    scale: float
    embedded: Callable[[float], Tensor]
    """From a strength to what is added to the time embedding, [1,E]; zero for 1."""
    trained: tuple[float, float]
    """The smallest and the largest strength of its training."""
    interval: Interval
    of_references = True

    def __post_init__(self) -> None:
        low, high = self.trained
        if not low <= self.scale <= high:
            raise InputError(
                f"got the strength {self.scale:g} of guidance for a student that was trained on {low:g} to {high:g}, "
                "expected one of these: give another, or draw with its teacher"
            )

    def with_scale(self, scale: float) -> StudentGuidance:
        return replace(self, scale=scale)

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        level = self.embedded(self.scale)
        rows = cond.rows or 1
        return replace(cond, level=level.expand(rows, -1) if cond.level is None else cond.level + level)


def receives_strength(config: ModelConfig) -> bool:
    """True for a student that receives the strength of guidance."""
    return config.student is not None and bool(config.student.strengths)


def build_student(inputs: GuidanceInputs, scale: float, interval: Interval) -> StudentGuidance:
    """The guidance of a student by its own input. InputError for a negative caption, which it does not receive."""
    import torch

    from glide.networks.guidance_strength import GuidanceStrength

    model = inputs.context.conditioner.model
    if inputs.options.negative is not None:
        raise InputError(
            f"got the negative caption {inputs.options.negative!r} for a student, which learned to be led away from "
            "no caption alone, expected none: leave it out, or draw with its teacher"
        )
    part = next(part for part in model.parts if isinstance(part, GuidanceStrength))

    @torch.no_grad()
    def embedded(strength: float) -> Tensor:
        return part.embedded(torch.tensor([strength], device=model.device), model, model.dtype)

    assert model.config.student is not None
    low, high = model.config.student.strengths
    return StudentGuidance(scale, embedded, (low, high), interval)
