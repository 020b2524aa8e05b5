"""Convert the options of the original OpenAI code, with their names and defaults, to a `ModelConfig`.

Options come in two forms. The published form is that of the original scripts (`image_size`, `num_channels`, attention
resolutions in pixels as "32,16,8"); the constructor form is that of the network classes (`cls`, `model_channels`,
attention as downsampling factors). Options left out have the original's defaults.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from glide.checkpoints.openai.releases import ADM, GLIDE, GLIDE_UPSAMPLE, options_for
from glide.networks.config import ModelConfig, ProcessConfig, TextConfig, UNetConfig
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from glide.utils.json_files import as_table, parse_json

Options = Mapping[str, Any]

_CHANNEL_MULT = {
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}
_UPSAMPLER_MULT = _CHANNEL_MULT | {512: _CHANNEL_MULT[256]}

_CLASSES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Text2ImUNet": (GLIDE, {}),
    "SuperResText2ImUNet": (GLIDE_UPSAMPLE, {}),
    "InpaintText2ImUNet": (GLIDE, {"inpaint": True}),
    "SuperResInpaintText2ImUNet": (GLIDE_UPSAMPLE, {"inpaint": True}),
    "SuperResInpaintText2ImUnet": (GLIDE_UPSAMPLE, {"inpaint": True}),  # as the original spells it
    "UNetModel": (ADM, {}),
    "SuperResModel": (ADM, {"large_size": 256}),
}
"""The original's network classes, each with its published options."""

_SCHEDULES: dict[str, Literal["linear", "squaredcos_cap_v2"]] = {
    "linear": "linear",
    "cosine": "squaredcos_cap_v2",
    "squaredcos_cap_v2": "squaredcos_cap_v2",
}
_MINIMUM = {
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "large_size": 0,
    "small_size": 0,
    "xf_width": 0,
}

_FIXED = {"in_channels": 3, "conv_resample": True, "dims": 2, "xf_ar": 0.0, "share_unemb": False}
"""Constructor arguments that no published model sets; other values would compute another function."""


def parse_options(text: str) -> dict[str, Any]:
    """Options from a command line: key=value,key=value (values may contain commas), JSON, or a published file.

    Raises InputError for anything else; names and types are checked by `model_config`.
    """
    text = text.strip()
    if text.startswith("{"):
        return as_table(parse_json(text, "--options"), "--options")
    if "=" not in text:
        return options_for(text)
    pairs = [part.partition("=") for part in re.split(r",(?=\s*\w+\s*=)", text)]
    return {name.strip(): _parse_value(value.strip()) for name, _, value in pairs}


def _parse_value(text: str) -> Any:
    try:
        return parse_json(text.lower() if text in ("True", "False") else text, "an option")
    except InputError:
        return text


def complete(options: Options) -> dict[str, Any]:
    """Complete options of either form to the published form.

    Raises InputError for an unknown option, a value of the wrong type, and what this U-Net does not support.
    """
    given = dict(options)
    if {"cls", "model_channels"} & set(given):
        given, defaults = _from_constructor(given)
    else:
        defaults = GLIDE if set(given) & (set(GLIDE) - set(ADM)) else ADM
    for name, value in given.items():
        if name not in defaults:
            raise InputError(f"unknown option {name!r}; known are {', '.join(defaults)}.")
        _check_type(name, value, defaults[name])
    full = defaults | given
    if full.get("large_size"):
        full["image_size"] = full["large_size"]
    if full["rescale_timesteps"] and full["diffusion_steps"] != 1000:
        raise InputError(
            f"rescale_timesteps with diffusion_steps={full['diffusion_steps']} is not supported, as it gives "
            "the network other timesteps; it is with 1000 steps, where it changes nothing."
        )
    return full


def model_config(options: Options) -> ModelConfig:
    """The configuration of the model that the original builds from these options. Errors as `complete`."""
    o = complete(options)
    size, upsampler = o["image_size"], bool(o.get("large_size"))
    mult = _numbers("channel_mult", o["channel_mult"])
    if not mult:
        table = _UPSAMPLER_MULT if upsampler else _CHANNEL_MULT
        if size not in table:
            raise InputError(
                f"no default channel_mult for image_size={size}; give channel_mult, as in 1,2,3,4."
            )
        mult = table[size]
    resolutions = _numbers("attention_resolutions", o["attention_resolutions"])
    by_width, up_heads = o["num_head_channels"] > 0, o["num_heads_upsample"]
    unet = UNetConfig(
        image_size=size,
        out_channels=6 if o["learn_sigma"] else 3,
        channels=o["num_channels"],
        channel_mult=mult,
        num_res_blocks=o["num_res_blocks"],
        attention=tuple(int(size // pixels) for pixels in resolutions),
        num_heads=1 if by_width else o["num_heads"],
        head_channels=o["num_head_channels"] if by_width else 0,
        num_heads_upsample=0 if by_width or up_heads == o["num_heads"] else max(0, up_heads),
        scale_shift=o["use_scale_shift_norm"],
        resblock_updown=o["resblock_updown"],
        dropout=float(o["dropout"]),
    )
    text = None
    if o.get("xf_width"):
        names = ("n_vocab", "text_ctx", "xf_width", "xf_layers", "xf_heads", "xf_padding", "xf_final_ln")
        text = TextConfig(*(o[name] for name in names))
    fixed: Literal["fixed_small", "fixed_large"] = "fixed_small" if o.get("sigma_small") else "fixed_large"
    config = ModelConfig(
        unet=unet,
        text=text,
        num_classes=o["num_classes"] if o.get("class_cond") else 0,
        low_res=upsampler or o.get("super_res", False),
        scale=_scale(o["large_size"], o["small_size"]) if upsampler else 4,
        inpaint=o.get("inpaint", False),
        process=ProcessConfig(
            _SCHEDULES[o["noise_schedule"]],
            o["diffusion_steps"],
            prediction="x0" if o["predict_xstart"] else "eps",
            variance="learned" if o["learn_sigma"] else fixed,
        ),
    )
    return checked(config, "options")


def _scale(large: int, small: int) -> int:
    """The factor by which an upsampler enlarges; without small_size that of the published ones, 4."""
    scale, rest = divmod(large, small or large // 4)
    if rest or scale < 2:
        raise InputError(
            f"large_size={large} is not a whole multiple of small_size={small}; give those the upsampler was made for."
        )
    return scale


def _from_constructor(given: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Convert the constructor form to the published form; returns it with its defaults."""
    given = dict(given)
    cls = given.pop("cls", "UNetModel")
    if cls not in _CLASSES:
        raise InputError(
            f"cls={cls!r} is not a diffusion U-Net of the originals; known are {', '.join(_CLASSES)}."
        )
    defaults, implied = _CLASSES[cls]
    for name, value in _FIXED.items():
        if given.pop(name, value) != value:
            raise InputError(f"option {name} is not supported with another value than {value!r}.")
    out = given.pop("out_channels", 6)
    if out not in (3, 6):
        raise InputError(
            f"out_channels={out!r} is not supported; 3 is a prediction, 6 also a learned variance."
        )
    classes = given.pop("num_classes", None)
    if classes is not None:
        given |= {"class_cond": True, "num_classes": classes}
    size = given.get("image_size", implied.get("large_size", defaults["image_size"]))
    _check_type("image_size", size, 64)
    if "large_size" in implied:
        implied = implied | {"large_size": size}
    if "attention_resolutions" in given:
        factors = _numbers("attention_resolutions", given["attention_resolutions"])
        given["attention_resolutions"] = [size / factor for factor in factors]
    if "model_channels" in given:
        given["num_channels"] = given.pop("model_channels")
    return {"learn_sigma": out == 6} | implied | given, defaults


def _check_type(name: str, value: Any, default: Any) -> None:
    kind = type(default)
    if name in ("channel_mult", "attention_resolutions"):
        _numbers(name, value)
    elif kind is int:
        if isinstance(value, bool) or not isinstance(value, int) or value < _MINIMUM.get(name, 1):
            raise InputError(
                f"option {name} is {value!r}; a whole number is expected, as in {name}={default}."
            )
    elif not isinstance(value, (int, float) if kind is float else kind):
        raise InputError(
            f"option {name} is {value!r}; a {kind.__name__} is expected, as in {name}={default}."
        )
    if name == "noise_schedule" and value not in _SCHEDULES:
        raise InputError(f"unknown noise_schedule {value!r}; known are {', '.join(_SCHEDULES)}.")


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """Parse text like "32,16,8", a list of numbers, or one number to a tuple, with whole numbers as int."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)):
        parts = [parts]
    try:
        numbers = [float(part) for part in parts if part != ""]
    except (TypeError, ValueError):
        numbers = [0.0]
    if not all(0 < number < 1e6 for number in numbers):
        raise InputError(f"option {name} is {value!r}; positive numbers are expected, as in 1,2,3,4.")
    return tuple(int(number) if number.is_integer() else number for number in numbers)
