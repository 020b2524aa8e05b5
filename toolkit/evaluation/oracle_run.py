"""What evaluations and sweeps share: how pictures are drawn that the oracle judges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor
from tyro.conf import arg

from glide.checkpoints.trained_on import check_built_in_scenes
from glide.diffusion.samplers.registry import DEFAULT_SAMPLER, DEFAULT_STEPS, sampler_help, spacing_help
from glide.networks.fixed_batch import batches, whole_calls
from glide.networks.image_request import ImageRequest
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from guidance.options import DEFAULT_OPTIONS, Options
from toolkit.evaluation.prompts import Prompt
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps


@dataclass(frozen=True)
class JudgedPictures:
    """Settings of drawing pictures that the oracle judges."""

    model: str = "shapes"
    """A folder, an embedded name or a hub id."""
    steps: int = DEFAULT_STEPS
    spacing: Annotated[str | None, arg(metavar="NAME", help=spacing_help())] = None
    sampler: Annotated[str, arg(metavar="NAME", help=sampler_help())] = DEFAULT_SAMPLER
    eta: float = 0.0
    deep_every: int = 1
    """Over 1: the deep levels of the network are computed at every so many steps only (DeepCache)."""
    seed: int = 0
    """Of the captions or scenes, and of the noise."""
    batch_size: int = 32
    """Pictures in one sampling loop (rounded up to whole network calls). It changes no picture."""
    call_size: int | None = None
    """Pictures in one network call. By default as many as are drawn, up to 8 on a CPU and 32 on a GPU."""
    dtype: DType = AUTO
    device: str = "auto"
    overwrite: bool = False
    """Replace results that are in the folder --out already."""

    def check(self) -> None:
        """InputError for numbers that cannot be."""
        check_numbers(self)

    def pipeline(self, captions: bool = True) -> Pipeline:
        """The model, ready to draw. captions: InputError for one that draws none.

        InputError, too, for a model of other pictures than the built-in scenes, the only ones that can be judged.
        """
        check_built_in_scenes(self.model)
        pipe = Pipeline.from_pretrained(self.model, self.device, self.dtype, self.call_size)
        if (channels := pipe.model.config.unet.in_channels) != 3:
            raise InputError(
                f"{self.model} draws pictures of {channels} channels, expected 3, for colours are judged: give one."
            )
        if captions and pipe.model.text is None:
            raise InputError(
                f"{self.model} draws no captions; give a text model trained on the built-in scenes."
            )
        return pipe

    def for_run(self, pipe: Pipeline, pictures: int) -> tuple[Pipeline, int]:
        """The pipeline of a run of so many pictures, and how many of them to draw at once."""
        run = pipe.for_run(pictures)
        assert run.call_size is not None
        return run, whole_calls(self.batch_size, run.call_size)

    def settings(
        self, guidance: str | tuple[str, ...], scale: float | None = None, options: Options = DEFAULT_OPTIONS
    ) -> SamplingConfig:
        """How it draws with this guidance."""
        spec = spec_of_steps(self.steps)
        return SamplingConfig(
            self.sampler,
            spec,
            self.eta,
            guidance,
            scale,
            options,
            spacing=self.spacing,
            deep_every=self.deep_every,
        )


@dataclass(frozen=True)
class JudgedRun(JudgedPictures):
    """Settings of drawing captions that no training saw."""

    captions: int = 500
    """How many held-out captions of the grammar."""
    kinds: tuple[Literal["one", "count", "pair"], ...] = ("one", "count", "pair")


def drawn(
    pipe: Pipeline, settings: SamplingConfig, asked: Sequence[Prompt], batch_size: int, seed: int
) -> Tensor:
    """x [N,C,H,W] of what is asked for, on the CPU, nominally from -1 to 1; picture i has the seed `seed + i`."""
    pictures = [ImageRequest(seed + i, one.caption, one.label) for i, one in enumerate(asked)]
    run = pipe.for_run(len(pictures))
    assert run.call_size is not None
    parts = []
    for _, batch in progress(list(batches(pictures, batch_size, run.call_size)), leave=False, unit="batch"):
        for step in run.draw(batch, settings):  # each batch begins in the first place of a call
            x = step.x
        parts.append(x.cpu())
    return torch.cat(parts)
