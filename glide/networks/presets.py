"""Known configurations of models by name: those of base models here, and those of other packages.

A package adds one by an entry point of the group "glide.presets", which leads to a `ModelConfig` or to a function that
returns one; it cannot take a built-in name. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from glide.networks.config import ModelConfig, ProcessConfig, TextConfig, UNetConfig
from glide.networks.frozen_text_config import FrozenTextConfig
from glide.utils.config_check import checked
from glide.utils.entry_points import load_plug_in, names_of, plug_ins
from glide.utils.errors import InputError

GROUP = "glide.presets"


def adm(
    image_size: int, channels: int, channel_mult: tuple[float, ...], num_res_blocks: int, **sizes: Any
) -> UNetConfig:
    """ADM's U-Net: learned variance, attention at 32x32, 16x16 and 8x8 (2105.05233, section 3)."""
    return UNetConfig(
        image_size=image_size,
        in_channels=3,
        out_channels=6,
        channels=channels,
        channel_mult=channel_mult,
        num_res_blocks=num_res_blocks,
        attention=tuple(image_size // resolution for resolution in (32, 16, 8)),
        **sizes,
    )


def _ddpm(channels: int, channel_mult: tuple[float, ...]) -> UNetConfig:
    """DDPM's U-Net for 32x32: fixed variance, attention at 16x16 (2006.11239, appendix B)."""
    return UNetConfig(
        image_size=32,
        in_channels=3,
        out_channels=3,
        channels=channels,
        channel_mult=channel_mult,
        num_res_blocks=2,
        attention=(2,),
        head_channels=0,
        scale_shift=False,
        resblock_updown=False,
        dropout=0.1,
    )


_linear = ProcessConfig(schedule="linear")
_ddpm_process = ProcessConfig(schedule="linear", variance="fixed_large")
_process_32 = ProcessConfig(shift=2.0, prediction="x0", variance="fixed_small")
_process_64 = replace(_process_32, shift=4.0)

_tiny_text = TextConfig(vocab=512, context=24, width=32, layers=1, heads=2)
_small_text = TextConfig(vocab=512, context=24, width=128, layers=3, heads=4, pooled="mean")

_tiny_unet = UNetConfig(
    image_size=16,
    in_channels=3,
    out_channels=3,
    channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention=(2,),
    head_channels=32,
    resblock_updown=False,
    patch_size=2,
)
_unet_32 = UNetConfig(
    image_size=32,
    in_channels=3,
    out_channels=3,
    channels=64,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    attention=(2, 4),
    head_channels=32,
    resblock_updown=False,
    patch_size=2,
    coordinates=3,
)
_unet_64 = replace(_unet_32, image_size=64, patch_size=4)
_unet_64_fine = replace(_unet_32, image_size=64, channel_mult=(1, 1, 2, 2), attention=(4, 8), patch_size=2)

T5_XXL = FrozenTextConfig(
    kind="t5",
    source="city96/t5-v1_1-xxl-encoder-bf16",
    encoder_width=4096,
    width=2048,
    context=128,
    pooled="mean",
)
"""Imagen's text encoder, in safetensors (2205.11487, section 2.1). The paper names no width of the tokens."""

_adm_64 = adm(image_size=64, channels=192, channel_mult=(1, 2, 3, 4), num_res_blocks=3, dropout=0.1)
_adm_128 = adm(
    image_size=128,
    channels=256,
    channel_mult=(1, 1, 2, 3, 4),
    num_res_blocks=2,
    num_heads=4,
    head_channels=0,
)
_adm_256 = adm(image_size=256, channels=256, channel_mult=(1, 1, 2, 2, 4, 4), num_res_blocks=2)
_adm_512 = adm(image_size=512, channels=256, channel_mult=(0.5, 1, 1, 2, 2, 4, 4), num_res_blocks=2)

_annotated = UNetConfig(
    image_size=28,
    in_channels=1,
    out_channels=1,
    channels=28,
    channel_mult=(1, 2, 4),
    num_res_blocks=1,
    attention=(1, 2, 4),
    num_heads=4,
    head_channels=0,
    resblock_updown=False,
    blocks="standardized",
    linear_attention=True,
    unshuffle=True,
)
_annotated_process = ProcessConfig(schedule="linear", steps=300, betas=(1e-4, 0.02), variance="fixed_small")

PRESETS: dict[str, ModelConfig] = {
    # for a look at the training loop, in seconds; it learns little
    "tiny": ModelConfig(unet=_tiny_unet, text=_tiny_text, process=_process_32),
    # small models for the built-in scenes: minutes to hours on a laptop
    "shapes-32": ModelConfig(unet=_unet_32, text=_small_text, process=_process_32),
    "shapes-64": ModelConfig(unet=_unet_64, text=_small_text, process=_process_64),
    # one level more, at half the patch size: sharper outlines for 2.3 times the work
    "shapes-64-fine": ModelConfig(unet=_unet_64_fine, text=_small_text, process=_process_64),
    # thousands of emoji in several styles: wider inside, and a longer vocabulary
    "emoji-64": ModelConfig(
        unet=replace(_unet_64_fine, channel_mult=(1, 1, 2, 2.5)),
        text=replace(_small_text, vocab=2048, width=144),
        process=_process_64,
    ),
    # DDPM's for 32x32, and a narrower one for pictures as simple as Fashion-MNIST's
    "ddpm-32": ModelConfig(unet=_ddpm(channels=128, channel_mult=(1, 2, 2, 2)), process=_ddpm_process),
    "small-32": ModelConfig(unet=_ddpm(channels=64, channel_mult=(1, 2, 2)), process=_ddpm_process),
    # "The Annotated Diffusion Model", for Fashion-MNIST (examples/annotated)
    "annotated-28": ModelConfig(unet=_annotated, process=_annotated_process),
    # the published configurations
    "glide-base": ModelConfig(unet=_adm_64, text=TextConfig()),
    # 2 billion weights
    "imagen-base": ModelConfig(unet=replace(_adm_64, channels=512, dropout=0.0), text_encoder=T5_XXL),
    "adm-64": ModelConfig(unet=_adm_64, num_classes=1000),
    "adm-128": ModelConfig(unet=_adm_128, num_classes=1000, process=_linear),
    "adm-256": ModelConfig(unet=_adm_256, num_classes=1000, process=_linear),
    "adm-256-uncond": ModelConfig(unet=_adm_256, process=_linear),
    "adm-512": ModelConfig(unet=_adm_512, num_classes=1000, process=_linear),
}
"""By name. The vocabulary of the small text models is set when their tokenizer is trained."""


def preset(name: str, built_in: Mapping[str, ModelConfig] = PRESETS) -> ModelConfig:
    """The configuration of a name, of `built_in` or of another package.

    InputError, naming all there are, for an unknown name, and for another package's that cannot be loaded or built.
    """
    if name in built_in:
        return built_in[name]
    entry = plug_ins(GROUP).get(name)
    if entry is None:
        raise InputError(f"--preset {name!r}: expected one of {', '.join(names_of(GROUP, built_in))}.")
    config = load_plug_in(entry, "preset")
    config = config() if callable(config) else config
    if not isinstance(config, ModelConfig):
        raise InputError(
            f"the preset {name!r} of {entry.value} is a {type(config).__name__}, expected a ModelConfig or a function "
            "that returns one: choose another"
        )
    return checked(config, f"preset {name}")
