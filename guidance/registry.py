"""Make guidances from their names: what a guidance is made for, and the call that makes it.

Shape letters: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glide.diffusion.conditioning import Conditioning
from glide.networks.image_request import ImageRequest
from glide.utils.errors import InputError
from guidance.base import Guidance
from guidance.names import interval_of, named
from guidance.options import Options
from guidance.spec import GuidanceSpec

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline


@dataclass(frozen=True)
class Subject:
    """What a guidance is made for: the rows of one sampling loop, in order, and what draws them."""

    pipe: Pipeline
    """Its `model`, `conditions`, `predict`, `device`, `dtype` and `call_size`, which is the run's, and `guides`, which
    loads networks."""
    pictures: Sequence[ImageRequest]  # N
    cond: Conditioning
    """What the network is told of them, [N,...]."""
    options: Options


MakeGuidance = Callable[[Subject, float, tuple[int, int]], Guidance | Sequence[Guidance]]
"""From the subject, the scale and the interval: what an entry point of the group `glide.guidance` leads to."""


def make(term: GuidanceSpec, subject: Subject) -> list[Guidance]:
    """The guidances that a term stands for. InputError for what they cannot be made from."""
    entry = named(term.name).entry
    try:
        maker: MakeGuidance = entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the guidance {term.name!r} cannot be loaded from {entry.value} ({error}): install its package again"
        ) from error
    assert term.scale is not None
    made = maker(subject, term.scale, interval_of(term, len(subject.pipe.model.process)))
    return [made] if isinstance(made, Guidance) else list(made)
