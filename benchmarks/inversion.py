"""The error of DDIM inversion on true pictures: held-out scenes, inverted and drawn again.

python benchmarks/inversion.py --model shapes --pictures 16 --steps 100
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from glide.diffusion.ddim_inversion import ITERATIONS
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.shapes.dataset import held_out_scenes, render
from glide.utils.cli import parse, run
from glide.utils.dtype import DType
from glide.utils.images import from_uint8, to_uint8
from toolkit.pipelines.invert import decode, encode, psnr
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig


@dataclass(frozen=True)
class Inversion:
    """The flags."""

    model: str = "shapes"
    pictures: int = 16
    steps: int = 100
    iterations: int = ITERATIONS
    """Network calls for each step towards noise."""
    scale: float = 1.0
    """Scale of classifier-free guidance, both ways; 1 is none."""
    captions: bool = False
    """Invert and draw under the scene's caption; by default under none."""
    seed: int = 0
    call_size: int | None = None
    """Pictures in one network call."""
    dtype: DType = "float32"
    """Type of the network; the documented figures are float32's."""
    device: str = "auto"


def main() -> None:
    args = parse(Inversion, __doc__)
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, args.call_size)
    scenes = held_out_scenes(args.pictures, seed=args.seed)
    true = from_uint8(torch.from_numpy(render(scenes, pipe.model.config.picture_size)))
    rows = [
        ImageRequest(i, scene.caption if args.captions else "", given=KnownPixels(start=one))
        for i, (scene, one) in enumerate(zip(scenes, true, strict=True))
    ]
    guidance = "none" if args.scale == 1 else "cfg"
    settings = SamplingConfig("ddim", str(args.steps), 0.0, guidance, args.scale)
    start = time.perf_counter()
    latents = encode(pipe, rows, settings, args.iterations)
    rows = [replace(row, given=KnownPixels(latent=one)) for row, one in zip(rows, latents, strict=True)]
    drawn = from_uint8(to_uint8(decode(pipe, rows, settings)))  # as a PNG holds it
    found = psnr(drawn, true)
    seconds = (time.perf_counter() - start) / len(rows)
    print(
        f"{len(rows)} pictures, {args.steps} steps there (of {args.iterations} calls) and back: median "
        f"{median(found):.1f} dB, worst {min(found):.1f} dB; latents have mean {float(latents.mean()):.3f} and "
        f"deviation {float(latents.std()):.3f}; {seconds:.1f} s a picture"
    )


if __name__ == "__main__":
    run(main)
