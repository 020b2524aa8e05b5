"""A pipeline elsewhere: on another device, in a folder, on the hub, in another process."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.diffusers_pipelines import is_pipeline
from glide.checkpoints.load import load_with_vocabulary, read_config, resolve, save_model
from glide.checkpoints.model_folder import check_no_model
from glide.checkpoints.shared_folder import README, copy_model
from glide.networks.model import Model
from glide.utils.atomic_write import write_text
from glide.utils.device import find_device
from glide.utils.dtype import AUTO, DTYPES, check_dtype
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from glide.utils.hub_upload import upload
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.keyword_arguments import refuse_unknown
from toolkit.pipelines.model_card import CardFacts, model_card

Make = partial[Any]
"""The call by which a pipeline was made, to make it again."""


def to(
    self: BasePipeline,
    *args: Any,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    **unknown: Any,
) -> BasePipeline:
    """Move the pipeline to another device, another number type, or both; returns the pipeline itself.

    pipe.to("cuda"), pipe.to(torch.bfloat16), pipe.to("cuda", torch.bfloat16). The model is read again from where it
    came, since its weights may have been rounded, or packed for a CPU. InputError for a device or type that cannot
    be used here.
    """
    unknown.pop("silence_dtype_warnings", None)
    device = unknown.pop("torch_device", device)
    dtype = unknown.pop("torch_dtype", dtype)
    refuse_unknown(unknown, ("device", "dtype"), "Pipeline.to")
    for arg in args:
        if isinstance(arg, torch.dtype) or str(arg) in (AUTO, *DTYPES):
            dtype = arg
        elif arg is not None:
            device = arg
    changes: dict[str, Any] = {} if device is None else {"device": find_device(device)}
    if dtype is not None:
        check_dtype(str(dtype).removeprefix("torch."))
        changes["dtype"] = dtype
    if not changes:
        return self
    new = made_again(self.made_by, **changes)
    new.progress_bar_config = self.progress_bar_config
    self.__dict__.update(new.__dict__)
    return self


def made_again(make: Make, **changes: Any) -> BasePipeline:
    """Repeat the call that made a pipeline, with changed arguments. InputError if its model cannot be moved."""
    args, keywords = list(make.args), dict(make.keywords)
    if args and isinstance(args[0], Model):
        if keywords.get("owned"):
            raise InputError(
                "got a pipeline that owns its model, which it has rounded and packed, expected one by "
                "Pipeline.from_pretrained: load the model again"
            )
        device = changes.pop("device", None)
        args[0] = args[0] if device is None else args[0].to(device)
    return make.func(*args, **(keywords | changes))


def rebuilt(make: Make, fingerprint: str, bar: dict[str, Any]) -> BasePipeline:
    """A copied or unpickled pipeline. InputError where the model of that name has other weights by now."""
    pipe = made_again(make)
    if pipe.fingerprint != fingerprint:
        raise InputError(
            f"the model {pipe.name} has other weights ({pipe.fingerprint}) than when the pipeline was stored "
            f"({fingerprint}): put that one back, or load the pipeline again"
        )
    pipe.progress_bar_config = bar
    return pipe


def save_pretrained(self: BasePipeline, folder: str | Path, overwrite: bool = False) -> None:
    """Write the model as a folder that `from_pretrained` reads, in float32.

    InputError where there is a model in the folder already, unless overwrite, or where it cannot be written.
    """
    folder = Path(folder).expanduser()
    check_no_model(folder, overwrite)
    _save(self, folder, overwrite)


def push_to_hub(
    self: BasePipeline,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | bool | None = None,
    commit_message: str = "Upload the model",
    create_pr: bool = False,
    licence: str | None = None,
    about: str = "",
    overwrite: bool = False,
) -> str:
    """Upload the model and its card to the Hugging Face hub; returns the address. A missing repository is made.

    repo_id: "name" or "org/name". token: None is the one of `hf auth login`. licence, about: for the card, which has no
    samples; `glide share` also draws some. overwrite: also into a repository that has files. Local paths are left out
    of the record of the training. InputError where the extra `hub` is not installed, or the hub refuses.
    """
    with tempfile.TemporaryDirectory() as place:
        saved, folder = Path(place) / "saved", Path(place) / "model"
        _save(self, saved)
        record = copy_model(saved, folder, {})
        facts = CardFacts(repo_id, record, licence, about, sum(p.numel() for p in self.model.parameters()))
        write_text(folder / README, model_card(facts))
        address, _ = upload(
            folder,
            repo_id,
            private=private,
            token=token,
            message=commit_message,
            create_pr=create_pr,
            overwrite=overwrite,
        )
    return address


def _save(pipe: BasePipeline, folder: Path, overwrite: bool = False) -> None:
    """With the weights as they were before they were rounded for drawing."""
    source, keywords = pipe.made_by.args[0], pipe.made_by.keywords
    if isinstance(source, Model):
        if keywords.get("owned"):
            raise InputError(
                "got a pipeline that owns its model, which it has rounded: save the model before"
            )
        save_model(folder, source, overwrite=overwrite)
        return
    model = load_with_vocabulary(source, torch.device("cpu"), keywords["vocab"], keywords["places"])
    path = None if is_remote(source) else resolve(source, *keywords["places"])
    own = path is not None and path.is_dir() and not is_pipeline(path)
    record = read_config(path)["training"] if own and path is not None else None
    save_model(folder, model, record, overwrite=overwrite)
