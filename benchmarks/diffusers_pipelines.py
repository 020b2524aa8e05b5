"""Time of a step of diffusers' pipelines here, over that of diffusers' own, on random networks of each kind.

Both draw the same kind of picture in turn in one run. A step is the time from one network call to the next, so that
solver and guidance count; on a CPU it is processor time of one thread, which other jobs do not lengthen.

OMP_NUM_THREADS=1 python benchmarks/diffusers_pipelines.py
python benchmarks/diffusers_pipelines.py --kinds DiTPipeline --repeats 3
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.measure.diffusers_cases import KINDS, WORDS, write_pipeline
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

CAPTION, SCALE, CLASS = " ".join(WORDS), 7.5, 207


@dataclass(frozen=True)
class DiffusersPipelines:
    """The flags."""

    kinds: tuple[str, ...] = ()
    """Classes of pipelines; all by default."""
    steps: int = 10
    repeats: int = 9


def main() -> None:
    args = parse(DiffusersPipelines, __doc__)
    if unknown := [kind for kind in args.kinds if kind not in KINDS]:
        raise InputError(f"got --kinds {unknown[0]}, expected some of {', '.join(KINDS)}: choose from these")
    if args.steps < 3 or args.repeats < 1:
        raise InputError("got too few --steps or --repeats, expected at least 3 and 1: give more")
    import diffusers

    print(
        f"torch {torch.__version__}, diffusers {diffusers.__version__}, {torch.get_num_threads()} threads, float32"
    )
    for kind in args.kinds or KINDS:
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of diffusers' own code
            print(measure(kind, Path(folder), args.steps, args.repeats), flush=True)


def measure(kind: str, folder: Path, steps: int, repeats: int) -> str:
    """A line with the time of a step, the ratio with its spread over the repeats, and the network calls of a step."""
    reference = write_pipeline(kind, folder)
    reference.set_progress_bar_config(disable=True)
    pipe = Pipeline.from_pretrained(folder / "pipeline", "cpu", "float32")
    network = reference.transformer if kind == "DiTPipeline" else reference.unet
    theirs = StepTimes(network, lambda: draw_theirs(kind, reference, steps))
    ours = StepTimes(pipe.unet.network, lambda: draw_ours(kind, pipe, steps))
    found: list[tuple[float, float]] = []
    for repeat in range(repeats + 1):  # in turn: a machine that slows down slows both
        pair = (ours.step(steps), theirs.step(steps))
        if repeat:  # the first warms up
            found.append(pair)
    ratios = sorted(one / other for one, other in found)
    quarter = len(ratios) // 4
    seconds = median(one for one, _ in found)
    return (
        f"{kind}: {1000 * seconds:.1f} ms a step, {median(ratios):.3f} of diffusers' own "
        f"({ratios[quarter]:.3f} to {ratios[-1 - quarter]:.3f}), {ours.calls / steps:g} and {theirs.calls / steps:g} "
        "calls a step"
    )


class StepTimes:
    """The times between the calls of a network while something is drawn."""

    def __init__(self, network: torch.nn.Module, draw: Callable[[], None]) -> None:
        self.draw, self.at, self.calls = draw, [], 0
        network.register_forward_pre_hook(lambda *_: self.at.append(time.process_time()))

    at: list[float]

    def step(self, steps: int) -> float:
        """Seconds of a step: the median of those between the calls."""
        self.at.clear()
        self.draw()
        self.calls = len(self.at)
        return median(after - before for before, after in zip(self.at, self.at[1:], strict=False))


@torch.no_grad()
def draw_theirs(kind: str, pipe: Any, steps: int) -> None:
    """Draw a picture by diffusers."""
    common = {"num_inference_steps": steps, "output_type": "np"}
    guided = {**common, "guidance_scale": SCALE}
    if kind == "DiTPipeline":
        pipe([CLASS], **guided)
    elif kind == "StableDiffusionInpaintPipeline":
        image, mask = _picture()
        size = {"height": image.shape[-2], "width": image.shape[-1]}
        pipe(CAPTION, image=image[None], mask_image=1 - mask[None], **size, **guided)
    elif "tokenizer" in pipe.components:
        pipe(CAPTION, **guided)
    else:
        pipe(**common)


def draw_ours(kind: str, pipe: Pipeline, steps: int) -> None:
    """Draw a picture by this project, decoded."""
    config = pipe.model.config
    settings = SamplingConfig(
        sampler="ddpm" if kind == "ScoreSdeVePipeline" else "ddim",
        respacing=str(steps),
        guidance="cfg" if pipe.conditioner.has_null else "none",
        scale=SCALE,
        spacing="trailing",
    )
    given = KnownPixels()
    if config.inpaint:
        image, mask = _picture()
        given = KnownPixels(image=image, mask=mask)
    request = ImageRequest(
        0, CAPTION if config.reads_captions else "", CLASS if config.num_classes else None, given
    )
    *_, last = pipe.draw([request], settings)
    assert bool(torch.isfinite(last.x).all())


def _picture() -> tuple[torch.Tensor, torch.Tensor]:
    """A picture [3,H,W] in [-1, 1] and the mask of its known pixels [1,H,W]."""
    image = torch.rand(3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mask = torch.ones(1, 256, 256)
    mask[:, 64:192, 64:192] = 0
    return image, mask


if __name__ == "__main__":
    run(main)
