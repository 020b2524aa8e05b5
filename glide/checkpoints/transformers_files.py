"""Files of transformers' models: checked before the library reads them, and without its output on the terminal.

Only safetensors are read, and no code of theirs is run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from glide.utils.errors import InputError, reason_of
from glide.utils.json_files import as_table, read_table
from glide.utils.memory import check_file_fits
from glide.utils.numbers import Range

if TYPE_CHECKING:
    from hashlib import _Hash

E = TypeVar("E")
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "model-?????-of-?????.safetensors")
"""The files of weights on the hub."""
_COUNT, _WIDTH = Range(1, 1000), Range(1, 65536)
SIZES = dict.fromkeys(("num_hidden_layers", "num_layers"), _COUNT)
SIZES |= dict.fromkeys(("hidden_size", "d_model", "d_kv", "num_attention_heads", "num_heads"), _WIDTH)
SIZES |= dict.fromkeys(("max_position_embeddings", "type_vocab_size", "projection_dim"), _WIDTH)
SIZES |= dict.fromkeys(("intermediate_size", "d_ff", "relative_attention_num_buckets"), Range(1, 2**20))
SIZES |= {"vocab_size": Range(1, 2**24), "image_size": Range(1, 16384), "patch_size": Range(1, 4096)}
SIZES |= {"num_channels": Range(1, 1024), "mlp_ratio": Range(1, 256)}


def check_model_type(folder: Path, kinds: Mapping[str, str], kind: str, what: str) -> dict[str, Any]:
    """The table of a folder's config.json. what: "text encoder", for messages.

    InputError for a folder without one, or with a model of another kind than `kind` by its `model_type` in `kinds`.
    """
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} holds no {what}: there is no {CONFIG} in it; give another folder")
    table = read_table(folder / CONFIG)
    if kinds.get(str(table.get("model_type"))) != kind:
        raise InputError(
            f"got the {what} in {folder} of the model_type {table.get('model_type')!r}, expected a {kind}: "
            "give its kind, or another folder"
        )
    return table


def check_sizes(folder: Path, table: Mapping[str, Any], part: str = "") -> None:
    """InputError for sizes out of all reason in a config.json, which the library would build.

    part: the table within it that counts too, where there is one, such as "text_config".
    """
    inner = as_table(table.get(part) or {}, f"{part} in {folder / CONFIG}") if part else {}
    for sizes in (table, inner):
        for name, allowed in SIZES.items():
            if sizes.get(name) is not None:
                allowed.whole(sizes[name], f"{name} in {folder / CONFIG}")


def check_weights(folder: Path, what: str) -> None:
    """InputError for a folder without weights in safetensors, or with more of them than fit in memory."""
    weights = [file for file in folder.glob("*.safetensors") if file.is_file()]
    if not weights:
        raise InputError(
            f"got the {what} in {folder} without model.safetensors, expected it, as other formats (.bin) can "
            "run code: give one in safetensors"
        )
    check_file_fits(sum(file.stat().st_size for file in weights), folder, "its weights")


def from_pretrained(network_class: Any, folder: Path, what: str, **options: Any) -> Any:
    """The network in a folder, float32, frozen. InputError where weights are missing."""
    with quiet(), torch.random.fork_rng(devices=[]):
        network, report = network_class.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
        )
    missing = sorted([*report["missing_keys"], *map(str, report["mismatched_keys"])])
    if missing:
        raise InputError(f"the {what} in {folder} lacks the weights {missing[0]}: fetch it again")
    return network.float().eval().requires_grad_(False)


def load_shared(
    loaded: MutableMapping[tuple[str, str], E], kind: str, folder: Path, what: str, load: Callable[[], E]
) -> E:
    """The encoder in a folder: the one of `loaded` that is in use already, else a new one, which is added to it.

    InputError where `load` fails, whatever of missing or broken files makes it.
    """
    key = (kind, f"{folder.resolve()} {stamp(folder)}")
    found = loaded.get(key)
    if found is None:
        try:
            found = load()
        except InputError:
            raise
        except Exception as error:  # whatever broken or missing files break
            raise InputError(
                f"the {what} in {folder} cannot be loaded ({reason_of(error)}): fetch it again, or give another"
            ) from error
        loaded[key] = found
    return found


def weights_digest(network: nn.Module) -> _Hash:
    """SHA-256 over weights, to which a fingerprint adds what else counts.

    Weights count without their names, and each once, since names and shared weights differ between versions of
    transformers; files do not count, so that an encoder that was saved again is the same.
    """
    weights = set()
    for tensor in network.state_dict().values():
        digest = hashlib.sha256(f"{tuple(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        weights.add(digest.hexdigest())
    return hashlib.sha256("\n".join(sorted(weights)).encode())


def stamp(folder: Path) -> str:
    """A mark that changes where a file of the folder does."""
    found = ((file.name, file.stat()) for file in sorted(folder.iterdir()) if file.is_file())
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in found])


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without bars, and without its table of weights that an encoder does not need."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
