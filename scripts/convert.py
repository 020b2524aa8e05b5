"""Turn a published OpenAI checkpoint (ADM or GLIDE, a noisy classifier or CLIP; .pt) into a model folder.

The options it was built with are known by its file's name:

    python scripts/convert.py 64x64_diffusion.pt --out models/adm-64
    python scripts/convert.py 64x64_classifier.pt --out models/adm-64-classifier

GLIDE's models read captions with GLIDE's vocabulary, a folder with vocab.json and merges.txt (or a hub id):

    python scripts/convert.py base.pt --vocab vocab/glide --out models/glide-base

GLIDE's noisy CLIP is a pair of files, in one folder, and reads captions with CLIP's vocabulary:

    python scripts/convert.py clip_image_enc.pt --vocab vocab/clip --out models/glide-clip

A file of another name needs options, in the original scripts' names, or the published file whose options it shares:

    python scripts/convert.py ema_0.9999.pt --options image_size=64,num_channels=128,learn_sigma=True --out models/mine
    python scripts/convert.py finetuned.pt --options base_inpaint.pt --vocab vocab/glide --out models/inpaint
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import _path  # noqa: F401
import tyro

from glide.checkpoints.load import save_model
from glide.checkpoints.model_folder import check_no_model
from glide.checkpoints.openai.convert import load
from glide.checkpoints.openai.options import Options, parse_options
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.printable import say
from glide.utils.progress import progress
from guidance.classifier import openai as classifier_openai
from guidance.classifier.load import save_classifier
from guidance.clip import openai as clip_openai
from guidance.clip.load import save_clip


@dataclass(frozen=True)
class Convert:
    path: Annotated[str, tyro.conf.Positional]
    """The checkpoint: a local path, or one that blobfile reads (gs://, az://, https:// of Azure)."""
    out: str
    """Folder to write: config.json, model.safetensors and, with --vocab, tokenizer.json."""
    options: str | None = None
    """key=value,key=value (commas in values are fine), JSON, or the name of a published file."""
    vocab: str | None = None
    """Folder or hub id of GLIDE's vocabulary; without it the model takes no captions."""
    overwrite: bool = False
    """Take the place of a model that is in the folder."""


def main() -> None:
    args = parse(Convert, __doc__)
    check_no_model(args.out, args.overwrite)
    if clip_openai.is_pair(args.path):
        _convert_clip(args)
        return
    options = classifier_openai.options_given(args.path, args.options)
    if options is not None:
        _convert_classifier(args, options)
        return
    with progress(total=2, desc="converting", unit="part") as bar:
        model = load(args.path, parse_options(args.options) if args.options else None, args.vocab)
        bar.update()
        save_model(args.out, model, training={"converted": asdict(args)}, overwrite=True)
        bar.update()
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    say(f"{args.out}: {model.config.unet.image_size} pixels, {size:.1f} million parameters")
    if model.text is not None and model.tokenizer is None:
        say("without --vocab it takes no captions: convert it again with GLIDE's vocabulary")


def _convert_classifier(args: Convert, options: Options) -> None:
    if args.vocab is not None:
        raise InputError(
            f"a vocabulary was given ({args.vocab}), but {args.path} takes no captions; leave it out."
        )
    with progress(total=2, desc="converting", unit="part") as bar:
        model = classifier_openai.load(args.path, options)
        bar.update()
        save_classifier(args.out, model, training={"converted": asdict(args)}, overwrite=True)
        bar.update()
    size = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    config = model.config
    say(
        f"{args.out}: {config.encoder.image_size} pixels, {config.num_classes} classes, {size:.1f} million parameters"
    )


def _convert_clip(args: Convert) -> None:
    if args.options is not None:
        raise InputError(f"options were given ({args.options}), but GLIDE's CLIP needs none; leave them out.")
    with progress(total=2, desc="converting", unit="part") as bar:
        clip = clip_openai.load(args.path, args.vocab)
        bar.update()
        save_clip(args.out, clip, training={"converted": asdict(args)}, overwrite=True)
        bar.update()
    size = sum(parameter.numel() for parameter in clip.parameters()) / 1e6
    say(f"{args.out}: a CLIP of {clip.config.image_size} pixels, {size:.1f} million parameters")
    if clip.tokenizer is None:
        say("without --vocab it reads no captions: convert it again with CLIP's vocabulary")


if __name__ == "__main__":
    run(main)
