"""Model folders of noisy CLIPs: written, read by name, and begun with a diffusion model's trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.fetch_published import DIFFUSION, PublishedKind
from glide.checkpoints.first_stages import first_stage_of, held_in_folder
from glide.checkpoints.load import load_model, resolve
from glide.checkpoints.model_folder import CONFIG, load_weights, read_config, read_tokenizer, write_folder
from glide.checkpoints.names import published_model
from glide.checkpoints.published import PublishedModel
from glide.utils.config_check import blank
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from guidance.classifier.load import begin_with
from guidance.classifier.network import NoisyClassifier
from guidance.clip import openai as clip_openai
from guidance.clip.config import ClipConfig
from guidance.clip.network import NoisyClip, check_tokenizer

KIND = "clip"


EMBEDDED = Path(__file__).parents[1] / "pretrained"


@torch.no_grad()
def clip_from(name: str, embedding: int) -> NoisyClip:
    """A CLIP whose two networks begin as the down path and the text transformer of that diffusion model.

    Both have learned to see through noise what captions say of pictures. name: a CLIP's is that CLIP, to be trained
    further. embedding: width of the space. InputError where there is none of that name, or it reads no captions.
    """
    if (
        not is_remote(name)
        and (path := resolve(name, EMBEDDED, published=_kind_of(name))).is_dir()
        and read_config(path)["kind"] == KIND
    ):
        return load_clip(path)
    model = load_model(name)
    c = model.config
    if model.text is None or c.text is None or model.tokenizer is None:
        raise InputError(
            f"--init {name}: that model reads no captions: give one that does, or leave --init out"
        )
    clip = NoisyClip(
        ClipConfig(
            text=c.text, trunk=c.unet, embedding=embedding, process=c.process, first_stage=c.first_stage
        ),
        model.tokenizer,
    )
    clip.first_stage = model.first_stage
    assert isinstance(clip.image, NoisyClassifier)
    begin_with(clip.image, model, name)
    clip.text.load_state_dict(model.text.state_dict())
    return clip


def save_clip(
    folder: str | Path,
    clip: NoisyClip,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder that `load_clip` rebuilds; arguments and errors as `glide.checkpoints.load.save_model`."""
    config, state = clip.config.to_dict(), clip.state_dict()
    write_folder(
        folder,
        KIND,
        config,
        state,
        tokenizer=clip.tokenizer,
        training=training,
        dtype=dtype,
        overwrite=overwrite,
        parts=held_in_folder(clip.config.first_stage, clip.first_stage),
    )


def _convert_published(
    published: PublishedModel, files: Sequence[Path], vocab: str | None, folder: Path, record: dict[str, Any]
) -> None:
    save_clip(folder, clip_openai.load(files[0], vocab), training=record)


PUBLISHED = PublishedKind("clip", _convert_published)


def _kind_of(name: str) -> PublishedKind:
    """The kind of published model that a name stands for: a CLIP, or a diffusion model to begin with."""
    return PUBLISHED if (model := published_model(name)) and model.kind == KIND else DIFFUSION


def load_clip(name: str | Path, device: str | torch.device = "cpu", vocab: str | None = None) -> NoisyClip:
    """The noisy CLIP of that name, float32, in eval mode.

    name: a folder, an embedded CLIP, glide-clip, one of GLIDE's published pair clip_image_enc.pt and clip_text_enc.pt
    or the folder they are in (local or blobfile's path), or a hub id.
    vocab: folder or hub id of CLIP's vocabulary, for the captions of the published pair, which has no tokenizer.
    InputError if there is none of that name, it is another kind of model, or its files are damaged.
    """
    if clip_openai.is_pair(name):
        return clip_openai.load(name, vocab).to(device)
    if is_remote(name) or (path := resolve(name, EMBEDDED, published=PUBLISHED)).is_file():
        raise InputError(f"{name} is no CLIP: give a folder, or one of {' and '.join(clip_openai.PAIR)}")
    record = read_config(path, KIND)
    tokenizer = read_tokenizer(path, record)
    clip = blank(lambda: NoisyClip(ClipConfig.from_dict(record["model"]), tokenizer), f"{path / CONFIG}")
    check_tokenizer(clip, str(path))
    load_weights(clip, path, device)
    if clip.config.first_stage is not None:
        clip.first_stage = first_stage_of(clip.config.first_stage, path)
    return clip.eval()
