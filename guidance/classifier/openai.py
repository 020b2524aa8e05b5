"""The noisy classifiers that OpenAI published (2105.05233), converted at the border as
`glide.checkpoints.openai.convert` does.

Options come in two forms: what the original scripts take (`image_size`, `classifier_width`, ...), or what its network
class takes (`cls="EncoderUNetModel"`, `model_channels`, attention as downsampling factors).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.openai.convert import Source, encoder_layers, fill, identify, sources_of
from glide.checkpoints.openai.options import Options, model_config, parse_options
from glide.checkpoints.openai.releases import CLASSIFIER, CLASSIFIERS
from glide.checkpoints.openai.releases import PUBLISHED as DIFFUSION
from glide.checkpoints.state_dicts import read_state_dict
from glide.networks.config import ProcessConfig
from glide.utils.errors import InputError, warn
from glide.utils.filesystem import is_remote
from guidance.classifier.config import POOLS, ClassifierConfig
from guidance.classifier.network import NoisyClassifier

DEFAULTS, PUBLISHED = CLASSIFIER, CLASSIFIERS

_AS_DIFFUSION = {
    "classifier_width": "num_channels",
    "classifier_depth": "num_res_blocks",
    "classifier_attention_resolutions": "attention_resolutions",
    "classifier_use_scale_shift_norm": "use_scale_shift_norm",
    "classifier_resblock_updown": "resblock_updown",
}
_OUT = {
    # our layer: the original's, with the number of trailing ones in the shape of its weight there
    "attention": {"norm": ("out.0", 0), "pool.qkv": ("out.2.qkv_proj", 1), "pool.head": ("out.2.c_proj", 1)},
    "adaptive": {"norm": ("out.0", 0), "pool.head": ("out.3", 2)},
    "spatial": {"pool.hidden": ("out.0", 0), "pool.head": ("out.2", 0)},
    "spatial_v2": {"pool.hidden": ("out.0", 0), "pool.norm": ("out.1", 0), "pool.head": ("out.3", 0)},
}
"""After the trunk, for each pool."""
HEAD = ("out.2.c_proj.weight", "out.2.c_proj.bias")
"""The tensors whose height is the number of classes, of the published pool."""


def options_for(filename: str) -> dict[str, Any]:
    """The options of a published classifier, by its file's name (folders before it do not matter).

    InputError for another name.
    """
    name = re.split(r"[/\\]", filename)[-1]
    if name not in PUBLISHED:
        raise InputError(
            f"{name} is not one of the published classifiers: give {', '.join(PUBLISHED)}, or convert it with its "
            "options first (scripts/convert.py)."
        )
    return dict(PUBLISHED[name])


def options_of(path: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """As `glide.checkpoints.openai.convert.options_of`, of a classifier."""
    widths = {name: o.get("classifier_width", o.get("model_channels", 0)) for name, o in PUBLISHED.items()}
    found = identify(state, widths, lambda name: mapping(PUBLISHED[name]))
    if found is not None:
        if re.split(r"[/\\]", path)[-1] != found:
            warn(f"{path} has the tensors of {found}, so it is read with the options of that", stacklevel=3)
        return dict(PUBLISHED[found])
    found = identify(state, widths, lambda name: mapping(PUBLISHED[name]), but=HEAD)
    if found is None or HEAD[0] not in state:
        return options_for(path)
    classes = len(state[HEAD[0]])
    warn(
        f"{path} has the tensors of {found} with {classes} classes, so it is read with the options of that",
        stacklevel=3,
    )
    key = "out_channels" if "cls" in PUBLISHED[found] else "num_classes"
    return PUBLISHED[found] | {key: classes}


def options_given(path: str, text: str | None) -> dict[str, Any] | None:
    """Parse the options of the classifier in a file; None if the file holds another model.

    text: as typed, see `glide.checkpoints.openai.options.parse_options`, or the name of a published classifier; None
    leaves it to the file's name. InputError as `parse_options`.
    """
    name = re.split(r"[/\\]", path if text is None else text)[-1]
    if name in PUBLISHED:
        return options_for(name)
    if text is None and name not in DIFFUSION and not is_remote(path):
        state = read_state_dict(path)
        ours = "out.2.c_proj.weight" in state or "out.2.qkv_proj.weight" in state
        return options_of(path, state) if ours else None
    options = parse_options(text) if text is not None else {}
    ours = options.get("cls") == "EncoderUNetModel" or any(key.startswith("classifier_") for key in options)
    return options if ours else None


def classifier_config(options: Options) -> ClassifierConfig:
    """The classifier that the original builds from these options; InputError for those that make none."""
    if "cls" in options:
        return _from_constructor(options)
    unknown = sorted(set(options) - set(DEFAULTS))
    if unknown:
        raise InputError(f"unknown option {unknown[0]!r} of a classifier; known are {', '.join(DEFAULTS)}.")
    o = DEFAULTS | dict(options)
    names = ("image_size", "noise_schedule", "diffusion_steps", "num_classes")
    shared = {_AS_DIFFUSION[name]: o[name] for name in _AS_DIFFUSION} | {name: o[name] for name in names}
    model = model_config(shared | {"num_head_channels": 64, "class_cond": True})
    process = ProcessConfig(model.process.schedule, model.process.steps)
    return ClassifierConfig(model.unet, model.num_classes, (), _pool(o["classifier_pool"]), process)


def _from_constructor(options: Options) -> ClassifierConfig:
    given = dict(options)
    pool, classes = _pool(given.pop("pool", "adaptive")), given.pop("out_channels", 1000)
    if given.pop("cls") != "EncoderUNetModel":
        raise InputError(f"cls={options['cls']!r} is no classifier of the original; EncoderUNetModel is.")
    model = model_config(given | {"cls": "UNetModel", "num_classes": classes})
    if pool == "attention" and not model.unet.head_channels:
        raise InputError("pool=attention needs num_head_channels; give it, as in num_head_channels=64.")
    return ClassifierConfig(model.unet, classes, (), pool, ProcessConfig("linear"))


def _pool(name: Any) -> Any:
    if name not in POOLS:
        raise InputError(f"classifier_pool is {name!r}; known are {', '.join(POOLS)}.")
    return name


def mapping(options: Options) -> dict[str, Source]:
    """The source of each parameter of the classifier with these options. Takes no memory for weights."""
    return _sources(_blank(options))


def from_state_dict(state: Mapping[str, Tensor], options: Options) -> NoisyClassifier:
    """A published state dict -> our classifier, float32, in eval mode, sharing no memory with `state`.

    InputError, naming the first differences, if the state is not that of the options' classifier.
    """
    model = _blank(options)
    fill(model, state, _sources(model))
    return model.eval()


def load(path: str | os.PathLike[str], options: Options | None = None) -> NoisyClassifier:
    """A published checkpoint file, local or blobfile's path -> our classifier.

    options: those of the published file of this name, if not given. InputError if the name tells no options, or as
    `glide.checkpoints.openai.convert.load`.
    """
    path = os.fspath(path)
    if options is None and (is_remote(path) or re.split(r"[/\\]", path)[-1] in DIFFUSION):
        options = options_for(path)
    if options is not None:
        classifier_config(options)  # mistakes in the options are reported before a long download
    state = read_state_dict(path)
    options = options_of(path, state) if options is None else options
    try:
        return from_state_dict(state, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _blank(options: Options) -> NoisyClassifier:
    with torch.device("meta"):
        return NoisyClassifier(classifier_config(options))


def _sources(model: NoisyClassifier) -> dict[str, Source]:
    out = _OUT[model.config.pool]
    layers = [*encoder_layers("encoder", model.encoder), *((ours, name) for ours, (name, _) in out.items())]
    sources = sources_of(model, layers, legacy=True)  # its attention pool has the newer layout always: ours
    for ours, (_, ones) in out.items():
        source = sources[f"{ours}.weight"]
        sources[f"{ours}.weight"] = replace(source, shape=(*source.shape, *[1] * ones))
    if model.config.pool == "attention":
        shape = model.get_parameter("pool.positions").shape
        sources["pool.positions"] = Source("out.2.positional_embedding", tuple(shape))
    return sources
