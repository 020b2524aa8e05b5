"""The cost of latent diffusion: a picture against a cascade's, and training with latents encoded ahead or in the loop.

python benchmarks/latents.py
python benchmarks/latents.py --repeats 9 --cases picture

Both are measured in turn in one run. A cascade's picture is a small one, enlarged. A training step is forward and back
of a batch of stored pictures of the model's size, from the files to the gradients; the optimizer, which is the same, is
left out.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from PIL import Image

from benchmarks.measure.machine import timed
from glide.checkpoints.load import load_model
from glide.data.datasets import Batch, Dataset, on_device, open_data
from glide.data.latents import EncodedAhead, check_stored, encode_ahead, shards_of
from glide.diffusion.loss_config import LossConfig
from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes, render
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.images import to_uint8
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import Upscaler

CAPTION = "a large red ring"


@dataclass(frozen=True)
class Latents:
    """The flags."""

    model: str = "shapes-latent"
    base: str = "shapes"
    """First stage of the cascade."""
    upsampler: str = "shapes"
    cases: tuple[Literal["picture", "training"], ...] = ("picture", "training")
    steps: int = 20
    batch_size: int = 8
    pictures: int = 32
    """Stored pictures of the training."""
    memory: bool = True
    """Also measure the memory of a training, each in a process of its own."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: str = "auto"
    repeats: int = 5


def main() -> None:
    args = parse(Latents, __doc__)
    for flag in ("steps", "batch_size", "pictures", "repeats"):
        if getattr(args, flag) < 1:
            raise InputError(
                f"got --{flag.replace('_', '-')} {getattr(args, flag)}, expected at least 1: give more"
            )
    if args.pictures < args.batch_size:
        raise InputError(
            f"got --pictures {args.pictures} for batches of {args.batch_size}, expected as many at least: give more"
        )
    measures = {"picture": picture, "training": training}
    for case in args.cases:
        for line in measures[case](args):
            print(line)


def picture(args: Latents) -> list[str]:
    """Seconds of a picture of latents, and as a share of the cascade's."""
    latents = Pipeline.from_pretrained(args.model, args.device, args.dtype)
    base = Pipeline.from_pretrained(args.base, args.device, args.dtype)
    upscaler = Upscaler.load(args.upsampler, args.device, args.dtype)
    settings = SamplingConfig(respacing=str(args.steps), guidance="cfg", scale=3.0)
    request = ImageRequest(0, CAPTION)

    def draw(pipe: Pipeline) -> torch.Tensor:
        *_, last = pipe.draw([request], settings)
        return to_uint8(last.x)[0]

    found = in_turn(
        {
            "latents": lambda: draw(latents),
            "decoder": lambda: latents.model.first_stage.decode(torch.zeros(1, *_shape(latents))),
            "cascade": lambda: upscaler.enlarged(draw(base), request),
        },
        latents.device,
        args.repeats,
    )
    return [
        f"{torch.__version__}, {latents.device}, {torch.get_num_threads()} threads, {latents.dtype}",
        f"{args.model}, {args.steps} guided steps: {found['latents']:.3g} s a picture, of which the decoder "
        f"{found['decoder']:.3g} s",
        f"{args.base}, {args.steps} guided steps, and {args.upsampler}, {upscaler.steps} steps: "
        f"{found['cascade']:.3g} s a picture",
        f"latents take {found['latents'] / found['cascade']:.2f} of the cascade's time",
    ]


def _shape(pipe: Pipeline) -> tuple[int, int, int]:
    unet = pipe.model.config.unet
    return unet.in_channels, unet.image_size, unet.image_size


class Training:
    """A model of latents, and what a step of its training needs."""

    def __init__(self, args: Latents, folder: Path) -> None:
        """folder: receives the pictures, where it is new, and their latents."""
        self.args = args
        self.model = load_model(args.model).train().requires_grad_(True)
        config = self.model.config
        assert config.first_stage is not None
        self.fingerprint, self.latents = config.first_stage.fingerprint, folder / "latents"
        self.task = DiffusionObjective(LossConfig(prediction=config.process.prediction))
        pictures = folder / "pictures"
        if not pictures.exists():
            write_pictures(pictures, args.pictures, config.picture_size)
        self.data = check_stored(open_data(str(pictures), config.picture_size))

    def encode(self) -> None:
        """Fill the folder with latents."""
        shards = range(shards_of(self.data))
        encode_ahead(self.data, self.latents, self.fingerprint, self.model.first_stage.encode, shards)

    def ahead(self) -> EncodedAhead:
        """The data with these latents."""
        return EncodedAhead(self.data, self.latents, self.fingerprint)

    def step(self, data: Dataset) -> None:
        """Forward and back."""
        size = self.args.batch_size
        batch: Batch = on_device(data.batch(0, size), "cpu")
        t = torch.linspace(0, len(self.model.process) - 1, size).long()
        self.task(self.model, batch, t, RowRng(0, range(size)))["loss"].mean().backward()


def write_pictures(folder: Path, count: int, size: int) -> None:
    """Captioned PNG files of built-in scenes."""
    folder.mkdir()
    for i, scene in enumerate(held_out_scenes(count)):
        Image.fromarray(render([scene], size)[0]).save(folder / f"{i:05d}.png")
        (folder / f"{i:05d}.txt").write_text(scene.caption)


def peak(args: Latents, folder: Path, ahead: bool) -> float:
    """Peak memory, in MB, of a process that makes two steps, libraries included."""
    case = Training(args, folder)
    data = case.ahead() if ahead else case.data
    for _ in range(2):
        case.step(data)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def training(args: Latents) -> list[str]:
    """Seconds and memory of a step with latents encoded in the loop, and with those encoded ahead."""
    with tempfile.TemporaryDirectory() as place:
        case = Training(args, Path(place))
        device = case.model.device
        seconds = timed(case.encode, device)
        size = sum(file.stat().st_size for file in case.latents.iterdir())
        ahead = case.ahead()
        cases = {"loop": lambda: case.step(case.data), "ahead": lambda: case.step(ahead)}
        found = in_turn(cases, device, args.repeats)
        peaks = {False: "", True: ""}
        for encoded in peaks if args.memory else ():
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # nothing is left of the one before
                peaks[encoded] = f", at most {pool.apply(peak, (args, Path(place), encoded)):.0f} MB"
    return [
        f"{torch.__version__}, cpu, {torch.get_num_threads()} threads, float32, batches of {args.batch_size}",
        f"encoded in the loop: {found['loop']:.3g} s a step{peaks[False]}",
        f"encoded ahead: {found['ahead']:.3g} s a step{peaks[True]}; "
        f"{found['ahead'] / found['loop']:.2f} of the time",
        f"to encode: {seconds / args.pictures:.3g} s and {size / args.pictures / 1024:.0f} KiB a picture, once",
    ]


def in_turn(cases: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """The median seconds of each case, which are run in turn: a machine that slows down slows all."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, case in cases.items():
            elapsed = timed(case, device)
            if repeat:  # the first warms up
                seconds[name].append(elapsed)
    return {name: median(taken) for name, taken in seconds.items()}


if __name__ == "__main__":
    run(main)
