"""Internal guidance: a model guided away from the output of its own middle (2512.24176)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.contrast import Contrast
from guidance.entry import GuidanceEntry, Interval

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.denoiser import Prediction
    from guidance.context import GuidanceInputs, ModelContext


@dataclass(frozen=True, eq=False)
class InternalGuidance(Contrast):
    """Guides away from the prediction of the inner head: x0 = head + scale * (main - head).

    scale is the paper's w: 1 is the main prediction, 0 the head's. One network call gives both, so that a step takes
    as long as without guidance.
    """

    scale: float
    interval: tuple[int, int] = EVERYWHERE

    @property
    def name(self) -> str:
        return "internal guidance"

    @property
    def reads_inner_head(self) -> bool:
        return True

    def difference(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        assert main.inner is not None
        return main.x0 - main.inner


def check_inner_head(context: ModelContext, guidances: Sequence[Guidance], deep_every: int) -> None:
    """InputError where a guidance reads an inner head that the model does not have, or that a run leaves out.

    deep_every: above 1 where the run leaves deep levels out at some steps (DeepCache).
    """
    reader = next((guidance.name for guidance in guidances if guidance.reads_inner_head), None)
    if reader is None:
        return
    if not context.model.config.unet.inner_head:
        raise InputError(
            f"got {reader} for a model without an inner head, expected one that has it: train it along by "
            "--inner-head, or add it by --init MODEL --inner-head --train inner-head"
        )
    if context.wrap is not None:
        raise InputError(
            f"got {reader} for a network that runs in tiles, expected one as it is: leave it out"
        )
    if deep_every > 1:
        raise InputError(
            f"got --deep-every {deep_every} with {reader}, which reads the deep levels at every step, expected one of "
            "them: leave the other out"
        )


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> InternalGuidance:
    return InternalGuidance(scale, interval)


ENTRY = GuidanceEntry(
    "inner",
    "away from the model's inner head, in the same call; scale 1 is none",
    build,
    scale=1.5,
    neutral=1.0,
    acts=(0.4, 1.0),  # below, what the head lacks is detail, and more of it than there is are halos
)
