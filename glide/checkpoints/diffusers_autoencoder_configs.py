"""The settings of diffusers' autoencoders, with their checks.

Shape letters: c latent channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from glide.utils.config_check import Entries, need
from glide.utils.numbers import Range

Widths = Annotated[tuple[int, ...], Range(1, 65536), Entries(7)]
Blocks = Annotated[tuple[int, ...], Range(0, 100), Entries(7)]
Channels = Annotated[int, Range(1, 4)]
Activation = Literal["silu", "swish", "mish", "gelu", "relu"]
Factor = Annotated[float, Range(1e-12, 1e12)]
Numbers = Annotated[tuple[float, ...] | None, Range(-1e12, 1e12), Entries(1024)]


@dataclass(frozen=True)
class KLConfig:
    """The settings of an AutoencoderKL, with diffusers' defaults."""

    name: ClassVar[str] = "AutoencoderKL"
    in_channels: Channels = 3
    out_channels: Channels = 3
    down_block_types: Annotated[tuple[Literal["DownEncoderBlock2D"], ...], Entries(7)] = (
        "DownEncoderBlock2D",
    )
    up_block_types: Annotated[tuple[Literal["UpDecoderBlock2D"], ...], Entries(7)] = ("UpDecoderBlock2D",)
    block_out_channels: Widths = (64,)
    layers_per_block: Annotated[int, Range(1, 100)] = 1
    act_fn: Activation = "silu"
    latent_channels: Annotated[int, Range(1, 1024)] = 4
    norm_num_groups: Annotated[int, Range(1, 65536)] = 32
    sample_size: Annotated[int, Range(1, 65536)] = 32
    scaling_factor: Factor = 0.18215
    shift_factor: Annotated[float | None, Range(-1e12, 1e12)] = None
    latents_mean: Numbers = None
    latents_std: Numbers = None
    force_upcast: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    mid_block_add_attention: bool = True

    @property
    def factor(self) -> int:
        return 2 ** (len(self.block_out_channels) - 1)

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        _check_levels(self)
        for numbers in (self.latents_mean, self.latents_std):
            need(
                numbers is None or len(numbers) == self.latent_channels,
                f"got {len(numbers or ())} means or deviations, expected one for each of {self.latent_channels} "
                "latent channels",
            )
        need(min(self.latents_std or (1.0,)) > 0, "got a deviation of latents of 0 or below, expected more")


@dataclass(frozen=True)
class TinyConfig:
    """The settings of an AutoencoderTiny, with diffusers' defaults."""

    name: ClassVar[str] = "AutoencoderTiny"
    in_channels: Channels = 3
    out_channels: Channels = 3
    encoder_block_out_channels: Widths = (64, 64, 64, 64)
    decoder_block_out_channels: Widths = (64, 64, 64, 64)
    act_fn: Activation = "relu"
    upsample_fn: Literal["nearest"] = "nearest"
    latent_channels: Annotated[int, Range(1, 1024)] = 4
    upsampling_scaling_factor: Literal[2] = 2
    num_encoder_blocks: Blocks = (1, 3, 3, 3)
    num_decoder_blocks: Blocks = (3, 3, 3, 1)
    latent_magnitude: Factor = 3
    latent_shift: Annotated[float, Range(-1e12, 1e12)] = 0.5
    force_upcast: bool = False
    scaling_factor: Factor = 1.0
    shift_factor: Annotated[float | None, Range(-1e12, 1e12)] = 0.0
    latents_mean: ClassVar[None] = None
    latents_std: ClassVar[None] = None

    @property
    def factor(self) -> int:
        return 2 ** (len(self.num_encoder_blocks) - 1)

    @property
    def reach(self) -> int:
        """Pixels by which the farthest pixel that a latent depends on lies beyond the latent's own, at most; the same
        the other way."""
        blocks = zip(self.num_encoder_blocks, reversed(self.num_decoder_blocks), strict=True)
        # three convolutions a block, and the two at the ends of a level; the first and the last of a level count fully
        return sum((3 * max(pair) + 2) * 2**level for level, pair in enumerate(blocks)) + self.factor

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        levels = len(self.num_encoder_blocks)
        lists = (self.num_decoder_blocks, self.encoder_block_out_channels, self.decoder_block_out_channels)
        need(
            levels > 0 and all(len(numbers) == levels for numbers in lists),
            f"got {levels} levels of the encoder and lists of {', '.join(str(len(numbers)) for numbers in lists)}, "
            "expected as many of each",
        )


@dataclass(frozen=True)
class VQConfig:
    """The settings of a VQModel, with diffusers' defaults."""

    name: ClassVar[str] = "VQModel"
    in_channels: Channels = 3
    out_channels: Channels = 3
    down_block_types: Annotated[
        tuple[Literal["DownEncoderBlock2D", "AttnDownEncoderBlock2D"], ...], Entries(7)
    ] = ("DownEncoderBlock2D",)
    up_block_types: Annotated[tuple[Literal["UpDecoderBlock2D", "AttnUpDecoderBlock2D"], ...], Entries(7)] = (
        "UpDecoderBlock2D",
    )
    block_out_channels: Widths = (64,)
    layers_per_block: Annotated[int, Range(1, 100)] = 1
    act_fn: Activation = "silu"
    latent_channels: Annotated[int, Range(1, 1024)] = 3
    sample_size: Annotated[int, Range(1, 65536)] = 32
    num_vq_embeddings: Annotated[int, Range(1, 2**20)] = 256
    norm_num_groups: Annotated[int, Range(1, 65536)] = 32
    vq_embed_dim: Annotated[int | None, Range(1, 1024)] = None
    scaling_factor: Factor = 0.18215
    norm_type: Literal["group", "spatial"] = "group"
    mid_block_add_attention: bool = True
    lookup_from_codebook: bool = False
    force_upcast: bool = False
    shift_factor: ClassVar[None] = None
    latents_mean: ClassVar[None] = None
    latents_std: ClassVar[None] = None

    @property
    def factor(self) -> int:
        return 2 ** (len(self.block_out_channels) - 1)

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        _check_levels(self)
        need(
            self.vq_embed_dim in (None, self.latent_channels),
            f"got a codebook {self.vq_embed_dim} wide for {self.latent_channels} latent channels, expected as many",
        )


def _check_levels(config: KLConfig | VQConfig) -> None:
    levels = len(config.block_out_channels)
    need(
        levels == len(config.down_block_types) == len(config.up_block_types) > 0,
        f"got {levels} widths, {len(config.down_block_types)} and {len(config.up_block_types)} blocks, expected as "
        "many of each",
    )


Config = KLConfig | TinyConfig | VQConfig
CONFIGS: dict[str, type[KLConfig] | type[TinyConfig] | type[VQConfig]] = {
    cls.name: cls for cls in (KLConfig, TinyConfig, VQConfig)
}
"""By the class of the autoencoder."""
