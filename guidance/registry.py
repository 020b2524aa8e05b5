"""Samplers and guidances by name: what --sampler and --guidance choose from, and what a guidance is made from.

Shape letters: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch import Tensor

from glide.conditioning import Cond
from glide.denoise import Denoiser
from glide.errors import InputError
from glide.process import Process
from glide.samplers import Noise, Variance, ancestral, ddim
from guidance.compose import EVERYWHERE, Guidance
from guidance.conditions import Picture
from guidance.names import named
from guidance.options import Options
from guidance.terms import Term

if TYPE_CHECKING:
    from guidance.pipeline import Pipeline

Entry = TypeVar("Entry")


class Draw(Protocol):
    """A sampler as the pipeline calls it; each takes of this what it needs, and refuses what it cannot honour."""

    def __call__(
        self, process: Process, denoise: Denoiser, x: Tensor, noise: Noise, *, eta: float, variance: Variance
    ) -> Iterator[Tensor]: ...


def _ddim(
    process: Process, denoise: Denoiser, x: Tensor, noise: Noise, *, eta: float, variance: Variance
) -> Iterator[Tensor]:
    return ddim(process, denoise, x, noise, eta)


def _ddpm(
    process: Process, denoise: Denoiser, x: Tensor, noise: Noise, *, eta: float, variance: Variance
) -> Iterator[Tensor]:
    if eta:
        raise InputError(f"got eta {eta} for the sampler ddpm, which has none: leave it out, or use ddim")
    return ancestral(process, denoise, x, noise, variance)


SAMPLERS: dict[str, Draw] = {"ddim": _ddim, "ddpm": _ddpm}


@dataclass(frozen=True)
class Subject:
    """What a guidance is made for: the rows of one sampling loop, in order, and what draws them."""

    pipe: Pipeline
    """Its `model`, `conditions`, `predict`, `device`, `dtype` and `call_size`, and `guides`, which loads networks."""
    pictures: Sequence[Picture]  # N
    cond: Cond
    """What the network is told of them, [N,...]."""
    options: Options


MakeGuidance = Callable[[Subject, float, tuple[int, int]], Guidance | Sequence[Guidance]]
"""From the subject, the scale and the interval: what an entry point of the group `glide.guidance` leads to."""


def make(term: Term, subject: Subject) -> list[Guidance]:
    """The guidances that a term stands for. InputError for what they cannot be made from."""
    entry = named(term.name).entry
    try:
        maker: MakeGuidance = entry.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the guidance {term.name!r} cannot be loaded from {entry.value} ({error}): install its package again"
        ) from error
    assert term.scale is not None
    made = maker(subject, term.scale, term.interval or EVERYWHERE)
    return [made] if isinstance(made, Guidance) else list(made)


def choose(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """The table's entry, or InputError that names all there are."""
    if name not in table:
        raise InputError(f"got the {what} {name!r}, expected {' or '.join(table)}: choose one of these")
    return table[name]
