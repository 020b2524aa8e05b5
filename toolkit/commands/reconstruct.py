"""Encode and decode pictures, print what an autoencoder leaves of them, write figures and pairs side by side.

Shape letters: H W pixels, C channels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from glide.checkpoints.diffusers_autoencoders import load_any_autoencoder
from glide.checkpoints.provenance import fingerprint
from glide.data.datasets import is_generated, open_source, split_of
from glide.data.skipped_files import summary as reasons
from glide.data.stored_dataset import Source
from glide.networks.first_stage import AutoencoderLike
from glide.shapes.dataset import Shapes
from glide.shapes.render import render
from glide.shapes.scene import Scene
from glide.utils.atomic_write import write_text
from glide.utils.channels import check_channels, in_channels, in_mode
from glide.utils.contact_sheet import contact_sheet, enlarged
from glide.utils.device import find_device
from glide.utils.errors import InputError, warn
from glide.utils.image_files import decode_picture
from glide.utils.images import as_image, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from glide.utils.results_folder import Results
from toolkit.commands.reconstruct_flags import Reconstruct
from toolkit.evaluation.reconstruction import Measured, Original, Summary, measure, reconstructed, table

FIGURES = "reconstruct.json"
NAMES = (FIGURES, "worst-*.png", "pair-*.png")
SCENES = 256
"""Scenes that are measured by default."""
READABLE = 192
"""Least width in pixels of a picture beside another, so that its label is read."""
LARGEST_PAIR = 2**26
"""Pixels of a pair; of larger pictures a half, a quarter, ... is shown."""


def reconstruct(args: Reconstruct) -> Summary:
    """Measure, write pairs and figures, print the table; returns the figures of all pictures together.

    InputError for an autoencoder or data that cannot be opened, settings that do not fit, results that would be lost,
    and where no picture is whole.
    """
    check_numbers(args)
    results = Results(args.out, NAMES, args.overwrite)
    device = find_device(args.device)
    autoencoder = load_any_autoencoder(args.autoencoder, device)
    check_channels(autoencoder.picture_channels, args.autoencoder)
    originals, broken = _originals(args, autoencoder.picture_channels)
    with results:
        measured: dict[int, Measured] = {}
        pairs: dict[int, str] = {}
        for index, original in enumerate(progress(originals, desc="reconstructing", unit="picture")):
            try:
                pixels = original.read()
            except InputError as error:
                broken[original.name] = str(error)
                continue
            result = reconstructed(autoencoder, pixels, device)
            measured[index] = measure(original, pixels, result, autoencoder.factor)
            if args.all:
                pairs[index] = f"pair-{index:06d}-{_as_file_name(original.name)}.png"
                _write_pair(results.path(pairs[index]), measured[index], pixels, result)
        if not measured:
            raise InputError(
                f"every picture in {args.data} is broken ({reasons(broken)}), expected one that is whole: replace them"
            )
        worst = sorted(measured, key=lambda index: measured[index].psnr)[: args.worst]
        if not args.all:
            for place, index in enumerate(worst, 1):
                pairs[index] = f"worst-{place:02d}.png"
                pixels = originals[index].read()  # again, as few are written of many
                result = reconstructed(autoencoder, pixels, device)
                _write_pair(results.path(pairs[index]), measured[index], pixels, result)
        found = Summary.of(list(measured.values()))
        _write_figures(results, args, autoencoder, found, measured, pairs, broken)
    if broken:
        say(f"{len(broken)} pictures were skipped, listed in {args.out / FIGURES}: {reasons(broken)}")
    say(table(found, [measured[index] for index in worst], autoencoder.factor), result=True)
    say(f"pairs and figures: {args.out.resolve()}", result=True)
    return found


def _originals(args: Reconstruct, channels: int) -> tuple[list[Original], dict[str, str]]:
    """The pictures to be measured, and those that are known to be unusable, with the reason."""
    if is_generated(args.data):
        shapes = Shapes.parse_spec(args.data, args.seed, args.image_size, "held_out")
        return list(_scenes(shapes.scenes(0, args.pictures or SCENES), args.image_size, channels)), {}
    source = open_source(args.data, unconditional=True)
    if source.left_out:
        name, reason = next(iter(source.left_out.items()))
        warn(f"left out of {args.data}, {len(source.left_out)} in all: {name} {reason}")
    if args.held_out:
        source = split_of(source, args.data, "held_out", args.held_out)
    chosen = np.random.default_rng(args.seed).permutation(len(source))[: args.pictures]
    broken = {**source.left_out, **source.problems}
    return [
        Original(source.name(index), partial(_read, source, index, channels))
        for index in sorted(chosen.tolist())
    ], broken


def _read(source: Source, index: int, channels: int) -> Tensor:
    """uint8 [H,W,C] of a stored picture."""
    picture = in_mode(decode_picture(source.read(index), source.name(index))[0], channels)
    return torch.from_numpy(np.array(picture).reshape(picture.height, picture.width, channels))


def _scenes(scenes: Sequence[Scene], size: int, channels: int) -> Iterator[Original]:
    def read(scene: Scene) -> Tensor:
        return torch.from_numpy(in_channels(render([scene], size)[0], channels))

    for index, scene in enumerate(scenes):
        yield Original(f"scene {index}: {scene.caption}", partial(read, scene), tuple(scene.facts))


def _write_pair(path: Path, found: Measured, pixels: Tensor, result: Tensor) -> None:
    """Write a picture and its reconstruction side by side, labelled. pixels, result: uint8 [H,W,C]."""
    times = 1
    while _size(found, 1 / times) > LARGEST_PAIR:
        times *= 2
    pair = np.stack([np.array(as_image(one).reduce(times)) for one in (pixels, result)])
    pair = pair.reshape(*pair.shape[:3], -1)
    if _size(found, READABLE / found.width) <= LARGEST_PAIR:
        pair = np.asarray(enlarged(pair, READABLE))
    label = f"PSNR {found.psnr:.2f} dB" + ("" if found.ssim is None else f", SSIM {found.ssim:.4f}")
    if found.lost:
        label += f", lost: {', '.join(found.lost)}"
    shown = f" (shown at 1/{times})" if times > 1 else ""
    save_png(path, contact_sheet(pair, [found.name + shown, label], columns=2))


def _size(found: Measured, scale: float) -> float:
    """Pixels of a pair of pictures at a scale, with margins and labels, at most."""
    return 2 * (found.width * scale + 16) * (found.height * scale + 64)


def _as_file_name(name: str) -> str:
    """The end of a picture's name, in letters that a file name can have, without its suffix."""
    return re.sub(r"[^\w-]+", "_", name.rpartition(".")[0] or name)[-60:].strip("_")


def _write_figures(
    results: Results,
    args: Reconstruct,
    autoencoder: AutoencoderLike,
    found: Summary,
    measured: dict[int, Measured],
    pairs: dict[int, str],
    broken: dict[str, str],
) -> None:
    assert isinstance(autoencoder, torch.nn.Module)
    figures = {
        "autoencoder": args.autoencoder,
        "fingerprint": fingerprint(autoencoder),
        "factor": autoencoder.factor,
        "data": args.data,
        **asdict(found),
        "images": [{**asdict(one), "pair": pairs.get(index)} for index, one in measured.items()],
        "broken": dict(sorted(broken.items())),
    }
    write_text(results.path(FIGURES), json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
