"""Interpolate between pictures, or captions: draw the frames of the walk, write a strip and two animations.

Shape letters: N frames, S stops of the walk, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.picture_sizes import default_size, in_first_stage, size_to_draw
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free, write_beside
from glide.utils.image_files import check_not_original, check_output
from glide.utils.images import grid, save_apng, save_gif, save_png, to_uint8
from glide.utils.memory import check_memory
from glide.utils.picture_size import parse_size
from glide.utils.printable import say
from glide.utils.progress import progress
from guidance.base import EVERYWHERE, Guidance
from guidance.interpolation import BetweenConditions, BetweenPredictions, slerp
from guidance.registry import named
from guidance.scheduled import Scheduled
from guidance.spec import GuidanceSpec
from guidance.student import receives_strength
from toolkit.commands.interpolate_flags import Interpolate
from toolkit.pipelines.frame_spacing import MORE, Frames, arc_length_frames, uniform_positions
from toolkit.pipelines.image_to_image import InitImage, read_init_image
from toolkit.pipelines.invert import decode, encode, psnr
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

HOLD, SHOW = 800, 120  # ms that the ends and the frames between them are shown


def interpolate(args: Interpolate) -> Tensor:
    """Draw the frames and write strip and animations; returns uint8 [N,H,W,3]. Prints where they are.

    InputError, before anything is drawn, for settings that do not fit.
    """
    args.settings(has_null=True)  # numbers out of range, before a model is loaded
    strip, *animations = args.files
    check_output(strip, args.overwrite, args.image)
    for path in animations:
        check_not_original(path, args.image)
        check_free(path, args.overwrite)
    pipe = Pipeline.from_pretrained(
        args.model, args.device, args.dtype, args.call_size, args.vocab, revision=args.revision
    )
    if args.prompt and not pipe.model.config.reads_captions:
        raise InputError(
            f"got captions for {args.model}, a model without text, expected none: leave them out"
        )
    config = pipe.model.config
    size = None if args.size is None else size_to_draw(config, parse_size(args.size))
    settings = replace(args.settings(pipe.conditioner.has_null), size=size)
    # a frame is held as floats, as pixels, in the strip, and twice in each animation
    pixels, drawn = math.prod(size or default_size(config)), 0
    if args.frame_spacing == "arc-length":
        drawn = (1 + MORE) * args.frames
    check_memory(
        args.frames * pixels * 3 * 16 + drawn * pixels * 3 * 8 + drawn**2 * 24,
        f"--frames {args.frames}",
        "ask for fewer frames",
    )
    starts = [read_init_image(path, pipe.model, size) for path in args.image]
    frames = _frames(args, Walk(args, pipe, settings, starts))
    shown = to_uint8(frames.pictures)
    _write(args, shown, _recipe(args, pipe, settings, starts, frames))
    say(f"largest difference of neighbours against the mean: {frames.unevenness:.2f} times")
    return shown


def _frames(args: Interpolate, walk: Walk) -> Frames:
    if args.frame_spacing == "arc-length":
        frames = arc_length_frames(
            walk.draw, args.frames, args.legs, args.closed, call_size=walk.pipe.call_size or 1
        )
    else:
        positions = uniform_positions(args.frames, args.legs, args.closed)
        frames = Frames(positions, walk.draw(positions), args.closed)
    if args.inverts:
        back = psnr(
            torch.stack([frames.pictures[frames.positions.index(stop)] for stop in range(len(walk.starts))]),
            torch.stack([start.image for start in walk.starts]),
        )
        *first, last = [f"{one:.1f}" for one in back]
        say(f"the pictures come back at {', '.join(first)} and {last} dB")
    return frames


class Walk:
    """A walk whose frames can be drawn at any position: 0 to the number of legs, a whole number at each stop."""

    def __init__(
        self, args: Interpolate, pipe: Pipeline, settings: SamplingConfig, starts: list[InitImage]
    ) -> None:
        self.args, self.settings, self.starts = args, settings, starts
        self.pipe = pipe.for_run(args.frames)  # calls of one size, however many are drawn at once
        self.latents: Tensor | None = None  # [S,C,H,W]
        if args.inverts:
            stops = [
                ImageRequest(args.seed, caption, given=KnownPixels(start=start.image))
                for caption, start in zip(args.captions, starts, strict=True)
            ]
            bar = _bar(f"inverting {len(stops)} pictures", pipe.steps(settings))
            self.latents = encode(pipe, stops, settings, args.iterations, bar)

    def draw(self, positions: Sequence[float]) -> Tensor:
        """Pictures [N,C,H,W] on the CPU; each depends on its own position alone."""
        legs = [min(int(position), self.args.legs - 1) for position in positions]
        share = torch.tensor([position - leg for position, leg in zip(positions, legs, strict=True)])
        between = self._between_captions(legs, share)
        words = f"drawing {len(positions)} frames"
        frames = [
            ImageRequest(self.args.seed, self.args.captions[leg], given=self._given(leg, one))
            for leg, one in zip(legs, share.tolist(), strict=True)
        ]
        steps = self.pipe.steps(self.settings)
        if self.latents is not None:
            return decode(self.pipe, frames, self.settings, between, _bar(words, steps - 1))
        drawing = self.pipe.draw(frames, self.settings, between)
        for step in progress(drawing, total=steps, desc=words, unit="step"):
            last = step
        return last.x.cpu()

    def _given(self, leg: int, share: float) -> KnownPixels:
        """The noise or picture that a frame begins with.

        Latents lie on the arc between those of two pictures (2010.02502, section 5.3). Pictures are mixed (DDPM,
        2006.11239, section 4.3): noised with the same noise, that is the noised mixture.
        """
        following = (leg + 1) % len(self.args.captions)
        if self.latents is not None:
            return KnownPixels(latent=slerp(self.latents[leg], self.latents[following], share))
        if self.starts:
            first, last = self.starts[leg].image, self.starts[following].image
            return KnownPixels(start=first + share * (last - first))
        return KnownPixels()

    def _between_captions(self, legs: Sequence[int], share: Tensor) -> list[Guidance]:
        """The guidances that lead frames of a share [N] from the caption of their leg to the next one.

        None for equal captions.
        """
        captions = self.args.captions
        if len(set(captions)) == 1:
            return []
        other = self.pipe.conditioner.of(
            [ImageRequest(self.args.seed, captions[(leg + 1) % len(captions)]) for leg in legs],
            in_first_stage(self.pipe.model.config, self.settings.size),
        )
        if self.args.mix == "conditions":
            return [BetweenConditions(other, share)]
        found: list[Guidance] = [BetweenPredictions(1.0, other, share)]
        if receives_strength(self.pipe.model.config):
            return found  # of a student both predictions are guided already
        for spec in self.settings.specs:
            if spec.name not in ("cfg", "apg") or spec.scale is None:
                continue
            interval = spec.interval or EVERYWHERE
            if spec.schedule is not None:
                between = BetweenPredictions(1.0, other, share, interval)
                found.append(Scheduled(between, _beyond_one(spec), len(self.pipe.model.process)))
            elif spec.scale > 1.0:
                found.append(BetweenPredictions(spec.scale - 1.0, other, share, interval))
        return found


def _beyond_one(spec: GuidanceSpec) -> Callable[[float], float]:
    """The strength of a contrast less 1, at least 0, as a function of the noise share."""
    neutral = named(spec.name).neutral
    return lambda share: max(spec.strength(share, neutral) - 1.0, 0.0)


def _write(args: Interpolate, pixels: Tensor, recipe: dict[str, Any]) -> None:
    """The strip, and the animations: there and back, or round and round. pixels: uint8 [N,H,W,C]."""
    shown, times = pixels, [SHOW] * len(pixels)
    if not args.closed:
        shown = torch.cat([pixels, pixels[1:-1].flip(0)])
        times = [SHOW] * len(shown)
        times[0] = times[len(pixels) - 1] = HOLD
    row = grid(pixels, columns=len(pixels))
    strip, gif, apng = args.files
    strip = write_beside(strip, partial(save_png, image=row, recipe=recipe, replace=args.overwrite))
    gif = write_beside(gif, partial(save_gif, frames=shown, ms=times, replace=args.overwrite))
    apng = write_beside(
        apng, partial(save_apng, frames=shown, ms=times, recipe=recipe, replace=args.overwrite)
    )
    say(f"strip of {len(pixels)} frames: {strip.resolve()}")
    say(f"animation: {gif.resolve()}, {apng.name}")


def _recipe(
    args: Interpolate, pipe: Pipeline, settings: SamplingConfig, starts: list[InitImage], frames: Frames
) -> dict[str, Any]:
    found: dict[str, Any] = {"made_by": "interpolate.py", "frames": args.frames}
    found |= {"closed": True} if args.closed else {}
    if args.frame_spacing != "uniform":
        found |= {"frame_spacing": args.frame_spacing, "positions": frames.positions}
    if starts:
        found |= {"images": [start.path for start in starts], "method": args.method}
        found |= {"images_sha256": [start.sha256 for start in starts]}
        found |= {"iterations": args.iterations} if args.inverts else {}
    if len(set(args.captions)) > 1:
        found |= {"prompts": list(args.captions), "mix": args.mix}
    return found | pipe.for_run(args.frames).recipe(ImageRequest(args.seed, args.captions[0]), settings, 0)


def _bar(words: str, total: int) -> Callable[[], object]:
    bar = progress(total=total, desc=words, unit="step")

    def tick() -> None:
        bar.update()
        if bar.n >= total:
            bar.close()

    return tick
