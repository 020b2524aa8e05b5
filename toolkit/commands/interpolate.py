"""Interpolate from one picture, or one caption, to another: draw the frames, write a strip and an animation.

Shape letters: N frames, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glide.networks.image_request import ImageRequest, KnownPixels
from glide.utils.errors import InputError
from glide.utils.file_locks import write_beside
from glide.utils.image_files import check_output
from glide.utils.images import grid, save_gif, save_png, to_uint8
from glide.utils.memory import check_memory
from glide.utils.printable import say
from glide.utils.progress import progress
from guidance.base import EVERYWHERE, Guidance
from guidance.interpolation import BetweenConditions, BetweenPredictions, slerp
from toolkit.commands.interpolate_flags import Interpolate
from toolkit.pipelines.image_to_image import InitImage, read_init_image
from toolkit.pipelines.invert import decode, encode, psnr
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

HOLD, SHOW = 800, 120  # ms that the ends and the frames between them are shown


def interpolate(args: Interpolate) -> Tensor:
    """Draw the frames and write strip and animation; returns uint8 [N,H,W,3]. Prints where they are.

    InputError, before anything is drawn, for settings that do not fit.
    """
    args.settings(has_null=True)  # numbers out of range, before a model is loaded
    strip, animation = args.files
    check_output(strip, args.overwrite, args.image)
    if animation.exists() and not args.overwrite:
        raise InputError(f"{animation} exists already: give another name, or --overwrite")
    pipe = Pipeline.from_pretrained(
        args.model, args.device, args.dtype, args.call_size, args.vocab, revision=args.revision
    )
    if args.prompt and not pipe.model.config.reads_captions:
        raise InputError(
            f"got captions for {args.model}, a model without text, expected none: leave them out"
        )
    settings = args.settings(pipe.conditioner.has_null)
    # a frame is held as floats, as pixels, in the strip, and twice in the animation
    side = pipe.model.config.picture_size
    check_memory(args.frames * side**2 * 3 * 12, f"--frames {args.frames}", "ask for fewer frames")
    share = torch.linspace(0, 1, args.frames)
    starts = [read_init_image(path, pipe.model) for path in args.image]
    if args.inverts:
        x = _between_latents(args, pipe, settings, starts, share)
    else:
        x = _drawn(args, pipe, settings, starts, share)
    pixels = to_uint8(x)
    recipe = _recipe(args, pipe, settings, starts)
    there_and_back = torch.cat([pixels, pixels[1:-1].flip(0)])
    times = [SHOW] * len(there_and_back)
    times[0] = times[len(pixels) - 1] = HOLD
    row = grid(pixels, columns=len(pixels))
    strip = write_beside(strip, partial(save_png, image=row, recipe=recipe, replace=args.overwrite))
    animation = write_beside(
        animation, partial(save_gif, frames=there_and_back, ms=times, replace=args.overwrite)
    )
    say(f"strip of {len(pixels)} frames: {strip.resolve()}")
    say(f"animation: {animation.resolve()}")
    return pixels


def _drawn(
    args: Interpolate, pipe: Pipeline, settings: SamplingConfig, starts: list[InitImage], share: Tensor
) -> Tensor:
    """Frames [N,C,H,W] from one noise: of mixed pictures (DDPM, 2006.11239, section 4.3), or between two captions.

    Noised with the same noise, the mixture of two noised pictures is the noised mixture.
    """
    given = [KnownPixels()] * len(share)
    if starts:
        first, last = (start.image for start in starts)
        given = [KnownPixels(start=first + one * (last - first)) for one in share.tolist()]
    frames = [ImageRequest(args.seed, args.captions[0], given=one) for one in given]
    steps = pipe.draw(frames, settings, _between_captions(args, pipe, settings, share))
    for step in progress(
        steps, total=pipe.steps(settings), desc=f"drawing {len(frames)} frames", unit="step"
    ):
        end = step
    return end.x.cpu()


def _between_latents(
    args: Interpolate, pipe: Pipeline, settings: SamplingConfig, starts: list[InitImage], share: Tensor
) -> Tensor:
    """Frames [N,C,H,W] between the latents of two pictures; the ends are the pictures (2010.02502, section 5.3)."""
    ends = [
        ImageRequest(args.seed, caption, given=KnownPixels(start=start.image))
        for caption, start in zip(args.captions, starts, strict=True)
    ]
    steps = pipe.steps(settings)
    first, last = encode(pipe, ends, settings, args.iterations, _bar("inverting 2 pictures", steps))
    frames = [
        ImageRequest(args.seed, args.captions[0], given=KnownPixels(latent=slerp(first, last, one)))
        for one in share.tolist()
    ]
    between = _between_captions(args, pipe, settings, share)
    drawn = decode(pipe, frames, settings, between, _bar(f"drawing {len(frames)} frames", steps - 1))
    back = psnr(drawn[[0, -1]], torch.stack([start.image for start in starts]))
    say(f"the pictures come back at {back[0]:.1f} and {back[1]:.1f} dB")
    return drawn


def _between_captions(
    args: Interpolate, pipe: Pipeline, settings: SamplingConfig, share: Tensor
) -> list[Guidance]:
    """The guidance that leads frames of a share [N] from the first caption to the second; none for equal captions."""
    first, second = args.captions
    if first == second:
        return []
    other = pipe.conditioner.of([ImageRequest(args.seed, second)])
    if args.mix == "conditions":
        return [BetweenConditions(other, share)]
    found: list[Guidance] = [BetweenPredictions(1.0, other, share)]
    found += [
        BetweenPredictions(spec.scale - 1.0, other, share, spec.interval or EVERYWHERE)
        for spec in settings.specs
        if spec.name in ("cfg", "apg") and spec.scale is not None and spec.scale > 1.0
    ]
    return found


def _recipe(
    args: Interpolate, pipe: Pipeline, settings: SamplingConfig, starts: list[InitImage]
) -> dict[str, Any]:
    found: dict[str, Any] = {"made_by": "interpolate.py", "frames": args.frames}
    if starts:
        found |= {"images": [start.path for start in starts], "method": args.method}
        found |= {"images_sha256": [start.sha256 for start in starts]}
        found |= {"iterations": args.iterations} if args.inverts else {}
    if args.captions[0] != args.captions[1]:
        found |= {"prompts": list(args.captions), "mix": args.mix}
    return found | pipe.for_run(args.frames).recipe(ImageRequest(args.seed, args.captions[0]), settings, 0)


def _bar(words: str, total: int) -> Callable[[], object]:
    bar = progress(total=total, desc=words, unit="step")

    def tick() -> None:
        bar.update()
        if bar.n >= total:
            bar.close()

    return tick
