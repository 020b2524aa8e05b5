"""Clean CLIPs, of other libraries: OpenAI's `clip`, `open_clip`, `transformers`, behind the face of `ImageText`.

Shape letters: N pictures, H W pixels, L tokens, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.checkpoints.load import resolve
from glide.checkpoints.model_folder import CONFIG
from glide.checkpoints.state_dicts import check_finite
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from glide.utils.json_files import as_table, read_table
from glide.utils.numbers import Range
from guidance.clip.load import EMBEDDED, PUBLISHED, load_clip
from guidance.clip.network import NoisyClip, unit
from guidance.clip.openai import MEAN, STD, is_pair

SIZES = {
    "num_hidden_layers": Range(1, 1000),
    "num_attention_heads": Range(1, 65536),
    "hidden_size": Range(1, 65536),
    "intermediate_size": Range(1, 2**20),
    "projection_dim": Range(1, 65536),
    "vocab_size": Range(1, 2**24),
    "max_position_embeddings": Range(1, 65536),
    "image_size": Range(1, 16384),
    "patch_size": Range(1, 4096),
}
"""Of a text or picture encoder in transformers' words."""
END = 49407  # the last token of a caption, in the vocabulary that CLIPs share


@dataclass(frozen=True, eq=False)
class CleanClip:
    """A CLIP that was trained on clean pictures.

    image: pictures [N,3,size,size], brought to CLIP's mean and deviation -> [N,E]. text: captions -> [N,E].
    mean, std: of its pictures, from 0 to 1. scale: the factor on the product of unit vectors.
    """

    image: Callable[[Tensor], Tensor]
    text: Callable[[list[str]], Tensor]
    size: int
    scale: float = 100.0
    mean: Sequence[float] = MEAN
    std: Sequence[float] = STD

    def embed_images(self, images: Tensor) -> Tensor:
        """Pictures [N,3,H,W] in [-1, 1], of any size -> [N,E], unit norm; differentiable."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bicubic", antialias=True)
        mean, std = (torch.tensor(list(v)).to(images)[:, None, None] for v in (self.mean, self.std))
        return unit(self.image(((images + 1) / 2 - mean) / std))

    @torch.no_grad()
    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Captions -> [N,E], unit norm. InputError for one that does not fit the context."""
        return unit(self.text(list(captions)))


def adapt(model: Any, tokenize: Callable[..., Any], size: int | None = None) -> CleanClip:
    """A CLIP of another library behind our face; its weights are frozen.

    model: transformers' CLIPModel, or any object with encode_image and encode_text: of OpenAI's `clip`, of `open_clip`.
    tokenize: transformers' tokenizer, `clip.tokenize`, or what `open_clip.get_tokenizer` gives.
    size: of its pictures in pixels, where the model does not say. InputError for another object, or without a size.
    """
    if isinstance(model, nn.Module):
        model.eval().requires_grad_(False)
    if hasattr(model, "get_image_features") and hasattr(model, "get_text_features"):
        return _of_transformers(model, tokenize)
    if not (hasattr(model, "encode_image") and hasattr(model, "encode_text")):
        raise InputError(
            f"got a {type(model).__name__} as a CLIP, expected an object with encode_image and encode_text: give "
            "one of clip, open_clip or transformers"
        )
    visual = getattr(model, "visual", None)
    found = size or getattr(visual, "input_resolution", None) or getattr(visual, "image_size", None)
    side = found[0] if isinstance(found, tuple) else found
    if not isinstance(side, int):
        raise InputError("got a CLIP that does not say how large its pictures are: give their size in pixels")

    def text(captions: list[str]) -> Tensor:
        try:
            tokens: Tensor = tokenize(captions)  # [N,L]
        except RuntimeError as error:  # clip's, of a caption that is too long
            raise InputError(f"the CLIP that guides cannot read the caption ({error}): shorten it") from None
        if (tokens[:, -1] == END).any():  # open_clip cuts without a word, and puts the end last
            raise InputError(
                f"for the CLIP that guides, a caption is longer than {tokens.shape[1]} tokens: shorten the caption"
            )
        return model.encode_text(tokens.to(_like(model).device))

    return CleanClip(
        lambda x: model.encode_image(x.to(_like(model).dtype)),
        text,
        side,
        _scale(model),
        getattr(visual, "image_mean", None) or MEAN,
        getattr(visual, "image_std", None) or STD,
    )


def _of_transformers(model: Any, tokenizer: Callable[..., Any]) -> CleanClip:
    context = model.config.text_config.max_position_embeddings

    def text(captions: list[str]) -> Tensor:
        tokens = tokenizer(captions, padding=True, return_tensors="pt")
        length = tokens["input_ids"].shape[1]
        if length > context:
            raise InputError(
                f"for the CLIP that guides, a caption is longer than {context} tokens ({length}): shorten the caption"
            )
        inputs = {name: tokens[name].to(model.device) for name in ("input_ids", "attention_mask")}
        return _features(model.get_text_features(**inputs))

    return CleanClip(
        lambda x: _features(model.get_image_features(pixel_values=x.to(model.dtype))),
        text,
        model.config.vision_config.image_size,
        _scale(model),
    )


def _features(output: Any) -> Tensor:
    """transformers returned the embeddings themselves up to version 4, later an object that holds them."""
    return output if isinstance(output, Tensor) else output.pooler_output


def _scale(model: Any) -> float:
    log_scale = getattr(model, "logit_scale", None)
    return 100.0 if log_scale is None else float(torch.as_tensor(log_scale).detach().float().exp())


def _like(model: Any) -> Tensor:
    """A tensor of the model's type and device."""
    weights = model.parameters() if isinstance(model, nn.Module) else iter(())
    return next(weights, torch.empty(0))


def load_any_clip(
    name: str | Path, device: str | torch.device = "cpu", vocab: str | None = None
) -> NoisyClip | CleanClip:
    """The CLIP of that name: a noisy one, as `load_clip`, or a clean one in transformers' format.

    name: as for `load_clip`, or the folder or hub id of a clean one ("openai/clip-vit-base-patch32").
    InputError if there is none of that name, or its files are damaged.
    """
    if is_pair(name) or is_remote(name):
        return load_clip(name, device, vocab)
    folder = resolve(name, EMBEDDED, published=PUBLISHED)
    if not _is_transformers(folder):
        return load_clip(folder, device, vocab)
    _check_sizes(folder)
    from transformers import AutoTokenizer, CLIPModel

    if not any((folder / file).is_file() for file in ("tokenizer.json", "merges.txt")):
        raise InputError(f"there is no tokenizer in {folder}: give a CLIP with its tokenizer.json")
    try:
        model = CLIPModel.from_pretrained(folder, use_safetensors=True).float().to(device)
        check_finite(model.state_dict())
        return adapt(model, AutoTokenizer.from_pretrained(folder))
    except Exception as error:  # whatever broken or missing files break
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"the CLIP in {folder} cannot be loaded ({reason}): fetch it again") from error


def _check_sizes(folder: Path) -> None:
    """InputError for a config of transformers whose numbers are out of all reason: the library builds what it says."""
    config = read_table(folder / CONFIG)
    for part in ("text_config", "vision_config"):
        table = as_table(config.get(part, {}), f"{part} in {folder / CONFIG}")
        for name, allowed in SIZES.items():
            if table.get(name) is not None:
                allowed.whole(table[name], f"{part}.{name} in {folder / CONFIG}")


def _is_transformers(folder: Path) -> bool:
    try:
        return read_table(folder / CONFIG).get("model_type") == "clip"
    except InputError:
        return False  # load_clip says what is wrong with it
