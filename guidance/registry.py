"""Samplers and guidances by name: what --sampler and --guidance choose from. New ones are added to these tables.

Shape letters: N pictures.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor

from glide.denoise import Denoiser
from glide.errors import InputError
from glide.process import Process
from glide.samplers import Noise, Variance, ancestral, ddim
from guidance.classifier_free import ClassifierFree
from guidance.compose import Guidance
from guidance.conditions import Conditions, Picture

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
    """What a guidance is made for: the rows of one sampling loop, in order."""

    pictures: Sequence[Picture]  # N
    conditions: Conditions


MakeGuidance = Callable[[Subject, float], list[Guidance]]


def _none(subject: Subject, scale: float) -> list[Guidance]:
    return []


def _classifier_free(subject: Subject, scale: float) -> list[Guidance]:
    if scale != 1.0 and subject.conditions.model.config.text and any(not p.caption for p in subject.pictures):
        raise InputError(
            "got an empty caption, expected words to guide towards: describe the picture, or draw one without a "
            "caption by the guidance 'none'"
        )
    return [ClassifierFree(scale, subject.conditions.null())]


GUIDANCES: dict[str, MakeGuidance] = {"none": _none, "cfg": _classifier_free}


def choose(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """The table's entry, or InputError that names all there are."""
    if name not in table:
        raise InputError(f"got the {what} {name!r}, expected {' or '.join(table)}: choose one of these")
    return table[name]
