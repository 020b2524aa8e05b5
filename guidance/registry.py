"""Samplers and guidances by name: what --sampler and --guidance choose from, and what a guidance is made from.

Shape letters: N pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.ddpm_ddim import Noise, Variance, ancestral, ddim
from glide.diffusion.samplers.dpm_solver import dpmpp_2m, dpmpp_2m_sde, unipc
from glide.diffusion.samplers.euler_heun import euler, euler_ancestral, heun
from glide.diffusion.samplers.linear_multistep import lms, plms
from glide.networks.conditioner import ImageRequest
from glide.utils.errors import InputError
from guidance.base import Guidance
from guidance.names import interval_of, named
from guidance.options import Options
from guidance.spec import GuidanceSpec

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline

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
    _no_eta("ddpm", eta)
    return ancestral(process, denoise, x, noise, variance)


def _without_noise(name: str, solver: Callable[[Process, Denoiser, Tensor], Iterator[Tensor]]) -> Draw:
    """A solver of the equation without noise."""

    def draw(
        process: Process, denoise: Denoiser, x: Tensor, noise: Noise, *, eta: float, variance: Variance
    ) -> Iterator[Tensor]:
        _no_eta(name, eta)
        return solver(process, denoise, x)

    return draw


def _with_noise(name: str, solver: Callable[[Process, Denoiser, Tensor, Noise], Iterator[Tensor]]) -> Draw:
    """A solver that draws noise, as much as belongs to its equation, whatever variance the model learned."""

    def draw(
        process: Process, denoise: Denoiser, x: Tensor, noise: Noise, *, eta: float, variance: Variance
    ) -> Iterator[Tensor]:
        _no_eta(name, eta)
        return solver(process, denoise, x, noise)

    return draw


def _no_eta(name: str, eta: float) -> None:
    if eta:
        raise InputError(f"got eta {eta} for the sampler {name}, which has none: leave it out, or use ddim")


SAMPLERS: dict[str, Draw] = {
    "ddim": _ddim,
    "ddpm": _ddpm,
    "euler": _without_noise("euler", euler),
    "heun": _without_noise("heun", heun),
    "euler-ancestral": _with_noise("euler-ancestral", euler_ancestral),
    "plms": _without_noise("plms", plms),
    "lms": _without_noise("lms", lms),
    "dpmpp-2m": _without_noise("dpmpp-2m", dpmpp_2m),
    "dpmpp-2m-sde": _with_noise("dpmpp-2m-sde", dpmpp_2m_sde),
    "unipc": _without_noise("unipc", unipc),
}
"""By the names of `glide.diffusion.samplers.registry`, which says what they are."""


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


def choose(what: str, name: str, table: Mapping[str, Entry]) -> Entry:
    """The table's entry, or InputError that names all there are."""
    if name not in table:
        raise InputError(f"got the {what} {name!r}, expected {' or '.join(table)}: choose one of these")
    return table[name]
