"""Judge a model of emoji in styles by pairs of a concept and a style that no training showed together.

examples:
    python examples/emoji/judge_styles.py --model emoji --data data/emoji-styles
    python examples/emoji/judge_styles.py --model emoji --upsampler runs/emoji-upsampler --data data/emoji-256

A linear probe on frozen features learns concepts and styles from the training pictures. It judges the pictures that the
model draws for held-out pairs, and the true pictures of the same pairs beside them: what it says of those is the most
that a model can reach. Writes judged.json, judged.md and sheets of pictures: drawn, nearest training picture, true one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch
from linear_probe import train_probe
from numpy.typing import NDArray
from style_judgement import Judgement, judge, table
from torch import Tensor

from glide.networks.image_request import ImageRequest
from glide.utils.atomic_write import write_text
from glide.utils.cli import parse, run
from glide.utils.contact_sheet import contact_sheet
from glide.utils.device import find_device
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.images import save_png
from glide.utils.numbers import whole
from glide.utils.resize import square
from glide.utils.results_folder import Results
from toolkit.commands.upsample import upsample
from toolkit.commands.upsample_flags import Upsample
from toolkit.evaluation.drawn_pictures import draw_into
from toolkit.evaluation.extraction import extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features, features_named
from toolkit.evaluation.picture_sets import PictureSet, open_pictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps

FIGURES, TABLE, SHEETS = "judged.json", "judged.md", "sheet-*.png"
PER_SHEET = 48


@dataclass(frozen=True)
class JudgeStyles:
    """The flags."""

    model: str
    """A base model trained on captions of emoji: its run's folder, or emoji, the embedded one."""
    upsampler: str | None = None
    """Enlarge the pictures by this upsampler, and judge the large ones."""
    scale: float = 2.0
    """Classifier-free guidance; 1 is none."""
    steps: int = 20
    """Sampling steps of the base model."""
    batch_size: int = 16
    seed: int = 0
    """Picture i has the seed SEED + i."""
    dtype: DType = AUTO
    device: str = "auto"
    data: Path = Path("data/emoji-styles")
    """A folder of build_styles.py."""
    captions: int = 500
    """Largest number of held-out pairs, chosen by --seed."""
    judge: str = "efficientnet-lite0"
    """The features under the probe, as --features of the evaluate_images command."""
    cache: Path | None = None
    """Where features are kept; by default in --out."""
    sheets: int = 1
    """Sheets of pictures to write, of 48 captions each."""
    out: Path = Path("outputs/emoji-styles")
    """Receives the figures and, in drawn/ and enlarged/, the pictures; those that are there already are not drawn
    again."""
    overwrite: bool = False
    """Replace results that are in the folder --out already."""


@dataclass(frozen=True)
class Glyphs:
    """Pictures of pairs with their features [N,F], concepts [N] and styles [N], numbers of the names."""

    pictures: PictureSet
    features: Tensor
    concepts: Tensor
    styles: Tensor


def judge_styles(args: JudgeStyles) -> Judgement:
    """Draw, judge, print and write. InputError for settings and folders that do not fit."""
    whole(args.captions, "--captions", 2)
    whole(args.sheets, "--sheets", 0)
    results = Results(args.out, (FIGURES, TABLE, SHEETS), args.overwrite)
    concepts, styles = names(args.data)
    network = features_named(args.judge, find_device(args.device))
    held_out = open_pictures(f"{args.data}/held_out/*.tar", count=args.captions, seed=args.seed)
    asked = [pair_of(held_out.name_of(i)) for i in range(len(held_out))]
    captions = [f"{concepts[code]}, {style} style" for code, style in asked]
    with results:
        drawn = draw(args, captions)
        cache = FeatureCache(args.cache or args.out / "features", network)
        size = drawn[0].height
        known = open_pictures(f"{args.data}/train/*.tar", size=size)
        training = glyphs(known, network, cache, list(concepts), styles)
        true = glyphs(
            open_pictures(f"{args.data}/held_out/*.tar", count=args.captions, seed=args.seed, size=size),
            network,
            cache,
            list(concepts),
            styles,
        )
        own = torch.from_numpy(extract(drawn, network, cache).features)
        probes = [
            train_probe(training.features, labels, count)
            for labels, count in ((training.concepts, len(concepts)), (training.styles, len(styles)))
        ]
        found = judge(
            probes[0], probes[1], own, true.features, training.features, (true.concepts, true.styles)
        )
        said = [
            f"{caption}: {list(concepts.values())[concept]}, {styles[style]}"
            for caption, concept, style in zip(
                captions, found.concept.tolist(), found.style.tolist(), strict=True
            )
        ]
        write(args, results, found, captions, said)
        for number in range(args.sheets):
            part = range(number * PER_SHEET, min((number + 1) * PER_SHEET, len(drawn)))
            if part:
                tiles = [
                    beside(drawn[i].pixels(), known, int(found.nearest[i].item()), true.pictures, i)
                    for i in part
                ]
                sheet = contact_sheet(np.stack(tiles), [said[i] for i in part], columns=6)
                save_png(results.path(f"sheet-{number}.png"), sheet)
    return found


def draw(args: JudgeStyles, captions: Sequence[str]) -> PictureSet:
    """A picture for each caption, enlarged where an upsampler is given. InputError for models that do not fit."""
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype)
    asked = [ImageRequest(args.seed + i, caption) for i, caption in enumerate(captions)]
    settings = SamplingConfig(respacing=spec_of_steps(args.steps), guidance=f"cfg:{args.scale}")
    drawn = draw_into(args.out / "drawn", pipe, asked, settings, args.batch_size)
    if args.upsampler is None:
        return drawn
    enlarged = args.out / "enlarged"
    small, model = str(args.out / "drawn"), args.upsampler
    upsample(
        Upsample(small, model=model, out=str(enlarged), part="1/1", dtype=args.dtype, device=args.device)
    )
    return open_pictures(str(enlarged))


def names(data: Path) -> tuple[dict[str, str], list[str]]:
    """The concepts of styles.json by their codes, and the styles. InputError for another file."""
    path = data / "styles.json"
    try:
        whole_file = json.loads(read_bytes(path))
        return {code: one["concept"] for code, one in whole_file["concepts"].items()}, list(
            whole_file["styles"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"got {path} without concepts and styles, expected that of build_styles.py: build it"
        ) from error


def pair_of(name: str) -> tuple[str, str]:
    """Code and style in the name of a picture, ".../1f34e-twemoji.png"."""
    code, _, style = Path(name).stem.rpartition("-")
    return code, style


def glyphs(
    pictures: PictureSet,
    network: Features,
    cache: FeatureCache,
    codes: Sequence[str],
    styles: Sequence[str],
) -> Glyphs:
    """Features of pictures, with the numbers of their concepts and styles. InputError for unknown ones."""
    found = extract(pictures, network, cache)
    pairs = [pair_of(pictures.name_of(place)) for place in found.places]
    numbers = [{name: i for i, name in enumerate(known)} for known in (codes, styles)]
    try:
        labels = [torch.tensor([numbers[k][pair[k]] for pair in pairs]) for k in range(2)]
    except KeyError as error:
        raise InputError(
            f"got {error.args[0]} in {pictures.name}, expected a concept and a style of styles.json: build "
            "the set again"
        ) from error
    return Glyphs(pictures, torch.from_numpy(found.features), labels[0], labels[1])


def write(
    args: JudgeStyles, results: Results, found: Judgement, captions: Sequence[str], said: Sequence[str]
) -> None:
    """judged.json and judged.md, and the table on the screen."""
    lines = table(found)
    print(lines)
    write_text(results.path(TABLE), lines + "\n")
    whole_file = {
        "settings": asdict(args),
        "figures": {one.name: asdict(one) for one in found.figures},
        "pictures": [
            {"caption": caption, "read": text} for caption, text in zip(captions, said, strict=True)
        ],
    }
    write_text(results.path(FIGURES), json.dumps(whole_file, indent=1, default=str) + "\n")


def beside(
    drawn: NDArray[np.uint8], training: PictureSet, nearest: int, true: PictureSet, place: int
) -> NDArray[np.uint8]:
    """Drawn, nearest training picture and true one in a row, white lines between them."""
    side = len(drawn)
    line = np.full((side, 2, 3), 255, np.uint8)
    others = [
        square(torch.from_numpy(np.array(one.pixels())), side).numpy()
        for one in (training[nearest], true[place])
    ]
    return np.concatenate([drawn, line, others[0], line, others[1]], axis=1)


if __name__ == "__main__":
    run(lambda: judge_styles(parse(JudgeStyles, __doc__)))
