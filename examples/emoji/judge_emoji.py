"""Judge a model trained on emoji: is the picture drawn for a caption nearest to the right glyph?

examples:
    python examples/emoji/judge_emoji.py --model runs/emoji --data "data/emoji/shards/train/*.tar"
    python examples/emoji/judge_emoji.py --model runs/emoji --upsampler runs/emoji-upsampler --captions 100
    python examples/emoji/judge_emoji.py --model runs/emoji --asked "data/emoji/shards/held_out/*.tar"

Prints the share of right captions (top 1), and writes judged.json and sheets of pictures: for each caption what was
drawn, the nearest training picture, and the right one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from emoji_nearest import Glyphs, Pixels, features
from PIL import Image
from tqdm import tqdm

from glide.data.datasets import open_source
from glide.networks.image_request import ImageRequest
from glide.utils.atomic_write import write_text
from glide.utils.cli import parse, run
from glide.utils.contact_sheet import contact_sheet
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.images import decode_image, save_png
from glide.utils.resize import square
from glide.utils.results_folder import Results
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.upscale import Upscaler

PER_SHEET = 60


@dataclass(frozen=True)
class JudgeEmoji:
    """The flags."""

    model: str
    """A base model trained on captions of emoji: its run's folder."""
    data: str = "data/emoji/shards/train/*.tar"
    """The training data, shards or a folder: the pictures that may be nearest."""
    asked: str | None = None
    """Draw the captions of another set (held-out ones), whose pictures then may be nearest, too."""
    captions: int | None = None
    """Largest number of captions, chosen by --seed."""
    upsampler: str | None = None
    """Enlarge the pictures by this upsampler, and judge the large ones."""
    scale: float = 3.0
    """Classifier-free guidance; 1 is none."""
    steps: int = 50
    sampler: Literal["ddim", "ddpm"] = "ddim"
    batch_size: int = 16
    seed: int = 0
    dtype: DType = AUTO
    device: str | None = None
    sheets: int = 1
    """Sheets of pictures to write, of 60 captions each."""
    columns: int = 6
    """Columns of a sheet, three pictures wide each."""
    out: Path = Path("outputs/emoji")
    overwrite: bool = False
    """Replace results that are in the folder --out already."""


@dataclass(frozen=True)
class Judged:
    """A caption, the caption of the nearest glyph, and whether that is the right one."""

    caption: str
    nearest: str
    right: bool


def judge(args: JudgeEmoji) -> list[Judged]:
    """Draw, compare, print and write. InputError for settings that do not fit."""
    for name, least in (("batch_size", 1), ("captions", 1), ("columns", 1), ("sheets", 0)):
        if (value := getattr(args, name)) is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} {value}: expected at least {least}")
    results = Results(args.out, ("judged.json", "sheet-*.png"), args.overwrite)
    pictures, names = captioned(args.data)
    wanted = list(range(len(names)))
    trained = len(names)
    if args.asked is not None:
        more, more_names = captioned(args.asked)
        wanted = list(range(trained, trained + len(more)))
        pictures, names = pictures + more, names + more_names
    if args.captions is not None:
        order = np.random.default_rng(args.seed).permutation(len(wanted))[: args.captions]
        wanted = [wanted[i] for i in sorted(order.tolist())]
    glyphs = Glyphs(pictures)
    # beside a held-out glyph is shown the nearest of those that the model was trained on
    training = glyphs if args.asked is None else Glyphs(pictures[:trained])
    own = glyphs.own_error()
    print(
        f"{len(names)} glyphs; of true ones, moved by up to 2 of 64 pixels and noised, {own:.1%} are mistaken"
    )
    judged: list[Judged] = []
    shown: list[Pixels] = []
    with results:
        for index, drawn in zip(wanted, draw(args, [names[i] for i in wanted]), strict=True):
            found = int(glyphs.nearest(features([drawn]))[0])
            judged.append(Judged(names[index], names[found], glyphs.right(found, index)))
            if len(shown) < PER_SHEET * args.sheets:
                near = int(training.nearest(features([drawn]))[0])
                shown.append(_side_by_side(drawn, pictures[near], pictures[index]))
        _write(args, results, judged, shown)
    return judged


def captioned(spec: str) -> tuple[list[Pixels], list[str]]:
    """The pictures of a data set, uint8 [64,64,3] or as large as they are, with their captions."""
    source = open_source(spec)
    if source.class_names:
        raise InputError(f"{spec} has classes, expected captions: give what build_emoji.py made")
    pictures = [decode_image(source.read(i), source.name(i)) for i in range(len(source))]
    side = max((min(p.shape[:2]) for p in pictures), default=0)
    return [square(p, side).numpy() for p in pictures], [source.caption(i) for i in range(len(source))]


def draw(args: JudgeEmoji, captions: Sequence[str]) -> Iterator[Pixels]:
    """A picture for each caption, uint8 [H,W,3]; number i has the seed `seed + i`."""
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, args.batch_size)
    stage = None
    if args.upsampler is not None:
        stage = Upscaler.load(args.upsampler, args.device, args.dtype)
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


def _side_by_side(drawn: Pixels, nearest: Pixels, right: Pixels) -> Pixels:
    """One picture of three, as high as the drawn one, a white line between them."""
    side = len(drawn)
    line = np.full((side, 2, 3), 255, np.uint8)
    others = [
        np.asarray(Image.fromarray(p).resize((side, side), Image.Resampling.LANCZOS))
        for p in (nearest, right)
    ]
    return np.concatenate([drawn, line, others[0], line, others[1]], axis=1)


def _write(args: JudgeEmoji, results: Results, judged: Sequence[Judged], shown: Sequence[Pixels]) -> None:
    top1 = sum(one.right for one in judged) / len(judged)
    error = (top1 * (1 - top1) / len(judged)) ** 0.5
    print(f"top 1: {top1:.1%} of {len(judged)} captions (standard error {error:.1%})")
    values = {"top1": top1, "settings": asdict(args), "captions": [asdict(one) for one in judged]}
    write_text(results.path("judged.json"), json.dumps(values, indent=1, default=str) + "\n")
    for number in range(0, len(shown), PER_SHEET):
        part = judged[number : number + len(shown[number : number + PER_SHEET])]
        captions = [one.caption if one.right else f"{one.caption} (nearest: {one.nearest})" for one in part]
        path = results.path(f"sheet-{number // PER_SHEET}.png")
        save_png(path, contact_sheet(np.stack(shown[number : number + PER_SHEET]), captions, args.columns))
        print(f"drawn, nearest training picture, right picture: {path}")


if __name__ == "__main__":
    run(lambda: judge(parse(JudgeEmoji, __doc__)))
