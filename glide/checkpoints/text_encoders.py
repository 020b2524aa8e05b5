"""Load frozen text encoders of transformers, from the hub or a folder, and save them into a model's folder.

Only safetensors are read, and no code of theirs is run.
"""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from glide.checkpoints.state_dicts import check_finite
from glide.checkpoints.transformers_files import (
    CONFIG,
    WEIGHTS,
    check_model_type,
    check_sizes,
    check_weights,
    from_pretrained,
    load_shared,
    quiet,
    weights_digest,
)
from glide.networks.frozen_text_config import CONTEXT, MODEL_TYPES, POOLED, FrozenTextConfig, Kind
from glide.networks.frozen_text_encoder import PretrainedText
from glide.utils.atomic_write import cannot_write, temporary_name
from glide.utils.errors import InputError
from glide.utils.hub import commit_of, hub_folder

FOLDER = "text_encoder"
"""Of an embedded encoder, in the model's folder."""
MARK = "fingerprint.txt"
"""In an embedded encoder's folder: it says, without reading the weights, that the encoder is there."""
FILES = [CONFIG, *WEIGHTS]
FILES += ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
FILES += ["vocab.json", "merges.txt", "vocab.txt", "spiece.model"]
"""The files of an encoder on the hub."""
PROBES = (
    "",
    "a red circle to the left of a blue square",
    "Ein Käfer, 3/4 groß (ﬁ) №5",
    "一只猫 🐈\u200d⬛ don't",
)
"""Captions whose tokens are part of a fingerprint."""
_loaded: weakref.WeakValueDictionary[tuple[str, str], PretrainedText] = weakref.WeakValueDictionary()


def find_encoder(config: FrozenTextConfig, *places: Path) -> PretrainedText:
    """The encoder that a configuration names: in one of `places`, else in its folder, else on the hub.

    InputError where it is not there, or cannot be read.
    """
    folder = next((place for place in places if (place / CONFIG).is_file()), None)
    if folder is None and config.path:
        folder = Path(config.path).expanduser()
        if not folder.is_dir():
            raise InputError(
                f"got no folder {folder}, expected the text encoder {config.source} there: put it back, or into "
                f"the model's folder as {FOLDER}"
            )
    if folder is None and (config.embedded or "/" not in config.source):
        raise InputError(
            f"got no folder {places[0] if places else FOLDER}, expected the text encoder {config.source} in it: "
            "fetch the whole model folder"
        )
    if folder is None:
        name, _, asked = config.source.partition("@")
        revision = config.revision or asked
        folder = hub_folder(f"{name}@{revision}" if revision else name, FILES)
    return load_encoder(config.kind, folder)


def encoder_of(config: FrozenTextConfig, folder: Path) -> PretrainedText:
    """The encoder of the model in `folder`, or in a checkpoint of its run. InputError as `find_encoder`."""
    run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
    return find_encoder(config, folder / FOLDER, run / FOLDER)


def load_encoder(kind: Kind, folder: Path) -> PretrainedText:
    """The text encoder in a folder as transformers write it. One that is in use already is shared.

    InputError for another kind, files that are missing or damaged, and weights in another format than safetensors.
    """
    _check_files(kind, folder)
    return load_shared(_loaded, kind, folder, "text encoder", partial(_load, kind, folder))


def completed(config: FrozenTextConfig, encoder: PretrainedText) -> FrozenTextConfig:
    """The configuration with all that follows from the encoder. InputError for a context that it does not take."""
    most = encoder.positions
    if most is not None and config.context > most:
        raise InputError(
            f"got text_encoder.context {config.context}, expected at most {most}, which {config.source} takes: "
            "lower it"
        )
    return replace(
        config,
        path="" if config.embedded else config.path,
        revision=encoder.commit or "",
        fingerprint=encoder.fingerprint,
        encoder_width=encoder.width,
        width=config.width or encoder.width,
        context=config.context or min(CONTEXT, most or CONTEXT),
        pooled=POOLED[config.kind] if config.pooled == "auto" else config.pooled,
    )


def save_encoder(encoder: PretrainedText, folder: Path) -> None:
    """Write the encoder into `folder`, as a whole, unless it is there. InputError if it cannot be written."""
    mark = folder / MARK
    if mark.is_file() and mark.read_text("utf-8").strip() == encoder.fingerprint:
        return
    network: Any = encoder.network

    def write(draft: Path) -> None:
        with quiet():
            network.save_pretrained(draft, safe_serialization=True)
            encoder.own_tokenizer.save_pretrained(draft)
        (draft / MARK).write_text(encoder.fingerprint + "\n", "utf-8")

    _write_whole(folder, write)


def copy_encoder(source: Path, target: Path) -> None:
    """Copy the embedded encoder of one model folder into another, where it has one. InputError if that fails."""
    if (source / FOLDER / CONFIG).is_file():
        _write_whole(target / FOLDER, lambda draft: shutil.copytree(source / FOLDER, draft))


def _write_whole(folder: Path, write: Callable[[Path], object]) -> None:
    """Make `folder` of what `write` writes, by a rename, in place of an earlier one. InputError if that fails."""
    draft, old = temporary_name(folder), temporary_name(folder)
    try:
        write(draft)
        if folder.exists():
            folder.rename(old)
        draft.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _load(kind: Kind, folder: Path) -> PretrainedText:
    import transformers

    network_class, tokenizer_class = {
        "clip": (transformers.CLIPTextModel, transformers.CLIPTokenizerFast),
        "t5": (transformers.T5EncoderModel, transformers.T5TokenizerFast),
        "bert": (transformers.BertModel, transformers.BertTokenizerFast),
    }[kind]
    options: dict[str, Any] = {"add_pooling_layer": False} if kind == "bert" else {}
    network = from_pretrained(network_class, folder, "text encoder", **options)
    with quiet():
        tokenizer = tokenizer_class.from_pretrained(folder, local_files_only=True)
    check_finite(network.state_dict())
    vocabulary = tokenizer.backend_tokenizer.to_str()
    return PretrainedText(
        kind=kind,
        network=network,
        vocabulary=vocabulary,
        pad=tokenizer.pad_token_id or 0,
        width=network.config.d_model if kind == "t5" else network.config.hidden_size,
        positions=None if kind == "t5" else network.config.max_position_embeddings,
        fingerprint=text_fingerprint(network, tokenizer.backend_tokenizer),
        own_tokenizer=tokenizer,
        commit=commit_of(folder),
    )


def text_fingerprint(network: nn.Module, tokenizer: Any) -> str:
    """16 hexadecimal digits of SHA-256 over the weights, the vocabulary and the tokens of `PROBES`."""
    whole = weights_digest(network)
    whole.update(repr(sorted(tokenizer.get_vocab().items())).encode("utf-8", "surrogatepass"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    whole.update(repr([tokenizer.encode(probe).ids for probe in PROBES]).encode())
    return whole.hexdigest()[:16]


def _check_files(kind: Kind, folder: Path) -> None:
    """InputError for a folder that holds no encoder of this kind in safetensors, or sizes out of all reason."""
    table = check_model_type(folder, MODEL_TYPES, kind, "text encoder")
    check_sizes(folder, table, "text_config" if table.get("model_type") == "clip" else "")
    check_weights(folder, "text encoder")
    _check_vocabulary(folder)


def _check_vocabulary(folder: Path) -> None:
    """InputError where there is none, or nothing here that reads it."""
    if any((folder / name).is_file() for name in ("tokenizer.json", "merges.txt", "vocab.txt")):
        return
    if not (folder / "spiece.model").is_file():
        raise InputError(f"there is no tokenizer in {folder}: give an encoder with its tokenizer.json")
    if not all(map(find_spec, ("sentencepiece", "google", "google.protobuf"))):
        raise InputError(
            f"got the vocabulary {folder / 'spiece.model'} without the packages sentencepiece and protobuf, expected "
            "both: pip install 'glide-toolkit[t5]', or give an encoder with a tokenizer.json"
        )
