"""Convert a published OpenAI checkpoint: a model, a noisy classifier, or GLIDE's noisy CLIP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

from torch import nn

from glide.checkpoints.load import save_model
from glide.checkpoints.model_folder import check_no_model
from glide.checkpoints.openai.convert import load
from glide.checkpoints.openai.options import Options, parse_options
from glide.utils.errors import InputError
from glide.utils.printable import say
from glide.utils.progress import progress
from guidance.classifier import openai as classifier_openai
from guidance.classifier.load import save_classifier
from guidance.clip import openai as clip_openai
from guidance.clip.load import save_clip
from toolkit.commands.convert_flags import Convert

Network = TypeVar("Network", bound=nn.Module)


def convert(args: Convert) -> None:
    """Convert the checkpoint that is given, and say what it is. InputError for one that cannot be converted."""
    check_no_model(args.out, args.overwrite)
    if clip_openai.is_pair(args.path):
        _convert_clip(args)
        return
    options = classifier_openai.options_given(args.path, args.options)
    if options is not None:
        _convert_classifier(args, options)
        return
    given = parse_options(args.options) if args.options else None
    model = _converted(args, lambda: load(args.path, given, args.vocab), save_model)
    say(f"{args.out}: {model.config.unet.image_size} pixels, {_millions(model)}")
    if model.text is not None and model.tokenizer is None:
        say("without --vocab it takes no captions: convert it again with GLIDE's vocabulary")


def _convert_classifier(args: Convert, options: Options) -> None:
    if args.vocab is not None:
        raise InputError(
            f"a vocabulary was given ({args.vocab}), but {args.path} takes no captions; leave it out."
        )
    model = _converted(args, lambda: classifier_openai.load(args.path, options), save_classifier)
    config = model.config
    say(f"{args.out}: {config.encoder.image_size} pixels, {config.num_classes} classes, {_millions(model)}")


def _convert_clip(args: Convert) -> None:
    if args.options is not None:
        raise InputError(f"options were given ({args.options}), but GLIDE's CLIP needs none; leave them out.")
    clip = _converted(args, lambda: clip_openai.load(args.path, args.vocab), save_clip)
    say(f"{args.out}: a CLIP of {clip.config.image_size} pixels, {_millions(clip)}")
    if clip.tokenizer is None:
        say("without --vocab it reads no captions: convert it again with CLIP's vocabulary")


def _converted(args: Convert, read: Callable[[], Network], save: Callable[..., object]) -> Network:
    """The network that `read` makes of the checkpoint, saved in the folder --out."""
    with progress(total=2, desc="converting", unit="part") as bar:
        network = read()
        bar.update()
        save(args.out, network, training={"converted": asdict(args)}, overwrite=True)
        bar.update()
    return network


def _millions(network: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in network.parameters()) / 1e6:.1f} million parameters"
