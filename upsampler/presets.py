"""Known configurations of upsamplers by name, and where the embedded ones are.

Imports no torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from glide.networks.config import ModelConfig, ProcessConfig, TextConfig, UNetConfig
from glide.utils.errors import InputError

EMBEDDED = Path(__file__).parent / "pretrained"
"""The folder of the upsamplers that are part of the package, each of the name of the base model it enlarges for."""


def _published(image_size: int, attention: tuple[int, ...], **sizes: Any) -> UNetConfig:
    """ADM's U-Net of an upsampler: learned variance, six levels (2105.05233, appendix)."""
    return UNetConfig(
        image_size=image_size,
        in_channels=3,
        out_channels=6,
        channels=192,
        channel_mult=(1, 1, 2, 2, 4, 4),
        num_res_blocks=2,
        attention=attention,
        **sizes,
    )


_linear = ProcessConfig(schedule="linear")
_small_process = ProcessConfig(shift=2.0, prediction="x0", variance="fixed_small")

_tiny_unet = UNetConfig(
    image_size=32,
    in_channels=3,
    out_channels=3,
    channels=32,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention=(2,),
    head_channels=32,
    resblock_updown=False,
    patch_size=4,
    local=True,
)
# one cell of its inner grid is one pixel of the low-resolution picture
_shapes_unet = UNetConfig(
    image_size=256,
    in_channels=3,
    out_channels=3,
    channels=64,
    channel_mult=(1.5, 2),
    num_res_blocks=2,
    attention=(2,),
    head_channels=32,
    resblock_updown=False,
    patch_size=4,
    local=True,
)

UPSAMPLERS: dict[str, ModelConfig] = {
    # for a look at the training loop, in seconds: from 8x8 to 32x32
    "tiny-upsampler": ModelConfig(
        unet=_tiny_unet,
        text=TextConfig(vocab=512, context=24, width=32, layers=1, heads=2),
        low_res=True,
        low_res_noise=True,
        process=_small_process,
    ),
    # for the built-in scenes
    "shapes-upsampler": ModelConfig(
        unet=_shapes_unet,
        text=TextConfig(vocab=512, context=24, width=128, layers=2, heads=4),
        low_res=True,
        low_res_noise=True,
        process=_small_process,
    ),
    # the published configurations
    "glide-upsampler": ModelConfig(
        unet=_published(image_size=256, attention=(8, 16, 32), dropout=0.1),
        text=TextConfig(),
        low_res=True,
        process=_linear,
    ),
    "adm-64-256": ModelConfig(
        unet=_published(image_size=256, attention=(8, 16, 32), num_heads=4, head_channels=0),
        num_classes=1000,
        low_res=True,
        process=_linear,
    ),
    "adm-128-512": ModelConfig(
        unet=_published(image_size=512, attention=(16, 32)),
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
