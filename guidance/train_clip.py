"""The training of a noisy CLIP, from its settings to its folder: what `scripts/train_clip.py` calls."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from glide.checkpoint import read_model_config
from glide.data import Batch, Dataset, FolderData, open_data, prefetch
from glide.errors import InputError
from glide.optim import OptimConfig
from glide.plots import figure
from glide.timesteps import UniformTimesteps
from glide.tokenizer import Tokenizer
from glide.train import TrainConfig, fit, last_line
from guidance.clip import CLIPS, ClipConfig, NoisyClip, load_clip, save_clip
from guidance.clip_levels import plot, retrieval, table
from guidance.contrastive import Contrastive
from guidance.fits import check_fits
from guidance.levels import LEVELS, newest, record, spread


@dataclass(frozen=True)
class TrainClip:
    """Settings of a CLIP's training."""

    out: Path
    """Folder of the run: log.jsonl, levels.jsonl (held-out retrieval at each noise level), checkpoints/, and the CLIP
    itself, which sample.py takes as --clip."""
    data: str = "shapes"
    """shapes (shapes:one, shapes:one=1,count=2,pair=3), or a folder of captioned pictures."""
    preset: str = "shapes-64"
    """Sizes of the CLIP by name; glide is the published one."""
    like: str | None = None
    """The diffusion model to steer: its noise and resolution must be the CLIP's. By default the noise is that of the
    preset's base model."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    vocab: str | None = None
    """Folder or hub id of CLIP's vocabulary; without it a tokenizer is trained on the captions."""
    vocab_size: int = 512
    """Of the tokenizer that is trained."""
    context: int | None = None
    """Tokens of a caption, the rest is cut; by default the preset's."""
    held_out: float = 0.05
    """Share of a folder's pictures that are left out of training and measured; 0 to measure nothing."""
    held_out_pairs: int = 256
    """Pairs that are measured, at most, every --sample-every steps."""
    levels: int = 10
    """Noise levels at which they are measured."""
    plot: bool = False
    """Also draw the noise levels, as samples/0001000.png, ... (needs matplotlib)."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random; captions that say "left" are then wrong."""
    max_broken: float = 0.01
    """Share of damaged pictures that are skipped and counted."""
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(
            steps=10_000, batch_size=128, optim=OptimConfig(lr=1e-3, weight_decay=0.05, cooldown=0.5)
        )
    )
    """All of a batch are compared with each other: larger ones are harder, and teach more."""


def train_clip(args: TrainClip) -> NoisyClip:
    """Build data and model, and `fit`; returns the trained CLIP. InputError for settings that do not fit."""
    _check(args)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(args.train.seed)

    saved = load_clip(args.out) if args.resume else None
    config = saved.config if saved is not None else _config(args)
    data = _open(args, config.image.size, crop=args.crop, flip=args.flip)
    data.check_batch(args.train.batch_size)
    measured = _held_out(args, config.image.size)
    # of a run that goes on, weights come from the checkpoint; sizes and tokenizer from the folder
    model = (saved if saved is not None else _build(args, config, data)).to(device)
    given: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(args), default=str))
    settings = {"command": shlex.join(["python", *sys.argv]), **given}

    def save(model: NoisyClip, out: Path, step: int) -> None:
        log = {"step": step, "log": last_line(out / "log.jsonl"), "levels": newest(out / LEVELS, step)}
        save_clip(out, model, {**settings, **log}, getattr(torch, args.save_dtype))

    def watch(model: NoisyClip, path: Path) -> None:
        if measured is not None:
            _measure(args, model, *measured, path)

    def batches(start: int) -> Iterator[Batch]:
        return prefetch(data, start, args.train.batch_size)

    if not args.resume:
        (args.out / LEVELS).unlink(missing_ok=True)
        save(model, args.out, 0)
    steps = UniformTimesteps(len(model.process))
    fit(
        model,
        Contrastive(),
        batches,
        steps,
        args.train,
        args.out,
        resume=args.resume,
        save=save,
        sample=watch,
    )
    save(model, args.out, args.train.steps)  # once more, now that the last measurement is there
    return model


def _check(args: TrainClip) -> None:
    if args.held_out_pairs < 2 or args.levels < 1:
        raise InputError(
            f"--held-out-pairs {args.held_out_pairs} --levels {args.levels}: expected at least 2 pairs and 1 level."
        )
    if args.train.batch_size < 2 or args.train.accumulate != 1:
        raise InputError(
            f"--batch-size {args.train.batch_size} --accumulate {args.train.accumulate}: expected at least 2, and 1, "
            "as all of a batch are compared with each other."
        )
    if args.preset not in CLIPS:
        raise InputError(f"--preset {args.preset!r}: expected one of {', '.join(CLIPS)}.")
    if not args.resume and (args.out / "checkpoints").exists():
        raise InputError(f"{args.out} already holds a run; give --resume to go on with it, or another --out.")
    if args.resume and not any(args.out.glob("checkpoints/step-*")):
        raise InputError(f"--resume: no checkpoint in {args.out}; start the run without --resume.")
    if args.plot:
        figure()  # that matplotlib is missing is said now, not after the first thousand steps


def _config(args: TrainClip) -> ClipConfig:
    """The preset, at the noise of the model that it is to steer."""
    config = CLIPS[args.preset]
    if args.like is None:
        return config
    like = read_model_config(args.like)
    config = dataclasses.replace(config, process=like.process)
    try:
        check_fits("CLIP", config.image.size, 3, config.process, like)
    except InputError as error:
        raise InputError(f"--like {args.like}: {error}") from None
    return config


def _build(args: TrainClip, config: ClipConfig, data: Dataset) -> NoisyClip:
    context = config.text.context if args.context is None else args.context
    if args.vocab is not None:
        tokenizer = Tokenizer.clip(args.vocab, context)
    else:
        tokenizer = Tokenizer.train(data.captions_for_tokenizer(), args.vocab_size, context)
    text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=context)
    return NoisyClip(dataclasses.replace(config, text=text), tokenizer)


def _open(args: TrainClip, size: int, **options: Any) -> Dataset:
    common: dict[str, Any] = {
        "seed": args.train.seed,
        "max_broken": args.max_broken,
        "held_out": args.held_out,
    }
    data = open_data(args.data, size, **common, **options)
    if data.class_names:
        raise InputError(
            f"{args.data} has classes, expected captions: give pictures with a caption each (x.png and x.txt)"
        )
    return data


def _held_out(args: TrainClip, size: int) -> tuple[Tensor, list[str]] | None:
    """Pictures [M,3,H,W] and captions that training never sees, or None where nothing is left out."""
    generated = args.data.split(":")[0] == "shapes"
    if not (args.held_out or generated):
        return None
    data = _open(args, size, split="held_out")
    count = args.held_out_pairs
    if isinstance(data, FolderData):
        count = min(count, len(data))
    batch = data.batch(0, count)
    return batch["image"], batch["caption"]


def _measure(args: TrainClip, clip: NoisyClip, image: Tensor, captions: list[str], path: Path) -> None:
    """Print the table of noise levels and add it to levels.jsonl; draw it at `path` (samples/0001000.png)."""
    step = int(path.stem)
    timesteps = spread(len(clip.process), args.levels)
    levels = retrieval(clip, image, captions, timesteps, getattr(torch, args.train.dtype))
    title = f"{len(captions)} held-out pairs after {step} steps"
    tqdm.write(f"{title}:\n{table(levels)}")
    record(args.out / LEVELS, step, levels)
    if args.plot:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot(levels, len(captions), title).savefig(path)
