"""Draw a picture for each caption with a model of emoji, and enlarge it where an upsampler is given.

Shape letters: H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from glide.networks.image_request import ImageRequest
from glide.utils.dtype import AUTO, DType
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.upscale import Upscaler

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Drawing:
    """Flags of drawing."""

    model: str
    """A base model trained on captions of emoji: its run's folder, or emoji, the embedded one."""
    upsampler: str | None = None
    """Enlarge the pictures by this upsampler, and judge the large ones."""
    scale: float = 2.0
    """Classifier-free guidance; 1 is none."""
    steps: int = 20
    sampler: str = "dpmpp-2m"
    batch_size: int = 16
    seed: int = 0
    dtype: DType = AUTO
    device: str | None = None


def draw(args: Drawing, captions: Sequence[str]) -> Iterator[Pixels]:
    """A picture for each caption, uint8 [H,W,3]; number i has the seed `seed + i`."""
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, args.batch_size)
    stage = None if args.upsampler is None else Upscaler.load(args.upsampler, args.device, args.dtype)
    bar = tqdm(total=len(captions), desc="drawing", unit="picture")
    for begin in range(0, len(captions), args.batch_size):
        part = list(captions[begin : begin + args.batch_size])
        result = pipe(
            part,
            guidance_scale=args.scale,
            num_inference_steps=args.steps,
            sampler=args.sampler,
            seed=args.seed + begin,
        )
        for offset, (caption, image) in enumerate(zip(part, result.images, strict=True)):
            pixels = torch.from_numpy(np.array(image))
            if stage is not None:
                pixels = stage.enlarged(pixels, ImageRequest(args.seed + begin + offset, caption))
            yield pixels.numpy()
            bar.update()
    bar.close()
