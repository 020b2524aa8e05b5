"""Known configurations of upsamplers by name, and where the embedded ones are.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from glide.networks.config import ModelConfig, ProcessConfig, TextConfig, UNetConfig
from glide.networks.presets import PRESETS, T5_XXL, adm
from glide.utils.errors import InputError

EMBEDDED = Path(__file__).parent / "pretrained"
"""The folder of the upsamplers that are part of the package, each of the name of the base model it enlarges for."""


def _published(image_size: int, **sizes: Any) -> UNetConfig:
    """ADM's U-Net of an upsampler: six levels (2105.05233, appendix)."""
    return adm(image_size, channels=192, channel_mult=(1, 1, 2, 2, 4, 4), num_res_blocks=2, **sizes)


_linear = ProcessConfig(schedule="linear")
_tiny = PRESETS["tiny"]
_tiny_unet = replace(_tiny.unet, image_size=32, patch_size=4, local=True)
# one cell of its inner grid is one pixel of the low-resolution picture
_shapes_unet = replace(_tiny_unet, image_size=256, channels=64, channel_mult=(1.5, 2), num_res_blocks=2)

UPSAMPLERS: dict[str, ModelConfig] = {
    # for a look at the training loop, in seconds: from 8x8 to 32x32
    "tiny-upsampler": ModelConfig(
        unet=_tiny_unet,
        text=_tiny.text,
        low_res=True,
        low_res_noise=True,
        process=_tiny.process,
    ),
    # for the built-in scenes
    "shapes-upsampler": ModelConfig(
        unet=_shapes_unet,
        text=TextConfig(vocab=512, context=24, width=128, layers=2, heads=4),
        low_res=True,
        low_res_noise=True,
        process=_tiny.process,
    ),
    # for emoji: narrower, and without captions, as outlines are the same whatever they surround
    "emoji-upsampler": ModelConfig(
        unet=replace(_shapes_unet, channels=48),
        low_res=True,
        low_res_noise=True,
        process=_tiny.process,
    ),
    # the published configurations
    "glide-upsampler": ModelConfig(
        unet=_published(image_size=256, dropout=0.1),
        text=TextConfig(),
        low_res=True,
        process=_linear,
    ),
    # Imagen's inputs (2205.11487, section 4.1) into ADM's U-Net, in place of the paper's Efficient U-Net
    "imagen-upsampler": ModelConfig(
        unet=_published(image_size=256), text_encoder=T5_XXL, low_res=True, low_res_noise=True
    ),
    "adm-64-256": ModelConfig(
        unet=_published(image_size=256, num_heads=4, head_channels=0),
        num_classes=1000,
        low_res=True,
        process=_linear,
    ),
    "adm-128-512": ModelConfig(
        unet=replace(_published(image_size=512), attention=(16, 32)),
        num_classes=1000,
        low_res=True,
        process=_linear,
    ),
}
"""The vocabulary of the small text models is set when their tokenizer is trained."""


def check_upsampler(config: ModelConfig, name: str) -> None:
    """InputError for a model that draws from noise alone, and for one of other pictures than RGB."""
    if config.unet.in_channels != 3:
        raise InputError(
            f"got the model {name} for pictures of {config.unet.in_channels} channels, expected 3, for RGB is what "
            "upsamplers take: give another"
        )
    if not config.low_res:
        raise InputError(
            f"got the model {name}, which draws and does not enlarge, expected an upsampler: give one that "
            "train_upsampler.py made, or a published one"
        )
