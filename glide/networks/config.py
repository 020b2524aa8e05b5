"""Configurations of the networks: their sizes, and the checks that the sizes fit each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from glide.networks.frozen_text_config import FrozenTextConfig
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.inner_head import check_inner_head
from glide.networks.process_config import ProcessConfig
from glide.networks.student_config import StudentConfig
from glide.utils.config_check import Entries, config_from_dict, need
from glide.utils.memory import check_file_fits
from glide.utils.numbers import Range
from glide.utils.picture_size import check_multiple, parse_size


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net. The fields are ADM's; published configurations are in `glide.networks.presets.PRESETS`."""

    image_size: Annotated[int, Range(1, 16384)] = 64
    in_channels: Annotated[int, Range(1, 1024)] = 3
    out_channels: Annotated[int, Range(1, 2048)] = 6
    """3: the prediction alone. 6: also the interpolation of the learned variance (2102.09672)."""
    channels: Annotated[int, Range(2, 65536)] = 192
    channel_mult: Annotated[tuple[float, ...], Range(0, 256), Entries(12)] = (1, 2, 3, 4)
    num_res_blocks: Annotated[int, Range(1, 100)] = 3
    attention: Annotated[tuple[int, ...], Range(0, 65536)] = (2, 4, 8)
    """Downsampling factors, relative to the stem's resolution, of the levels with attention."""
    num_heads: Annotated[int, Range(1, 65536)] = 1
    head_channels: Annotated[int, Range(0, 65536)] = 64
    """Width of an attention head; 0: `num_heads` gives the number of heads instead."""
    num_heads_upsample: Annotated[int, Range(0, 65536)] = 0
    """(head_channels 0) Heads in the decoder; 0: as in the encoder."""
    scale_shift: bool = True
    """Adaptive group norm (the embedding scales and shifts); False: the embedding is added."""
    resblock_updown: bool = True
    """Residual blocks change the resolution; False: strided and nearest-neighbour convolutions."""
    blocks: Literal["adm", "standardized"] = "adm"
    """Residual blocks. adm: norm, SiLU, convolution (2105.05233). standardized: convolutions of standardised weights,
    each before its norm and SiLU (1903.10520), as in the annotated diffusion model; with scale_shift and without
    resblock_updown."""
    linear_attention: bool = False
    """Attention of the levels is linear in the number of pixels (1812.01243), with heads of 32 channels, and stands
    once a level, after its last block; that of the middle stays what it is. Captions need token_attention cross."""
    unshuffle: bool = False
    """(no resblock_updown) Resolution is halved by pixel-unshuffle and a 1x1 convolution (2208.03641); it and the one
    that doubles lead to the width of the next level."""
    dropout: Annotated[float, Range(0, 1)] = 0.0
    patch_size: Literal[1, 2, 4] = 1
    """Factor by which pixels are unshuffled into channels before the stem."""
    coordinates: Annotated[int, Range(0, 16)] = 0
    """Octaves of x and y whose sines and cosines the stem and attention receive (`glide.networks.layers.coordinates`);
    0: none. Without them a network knows positions from its padded edges alone, and learns what "left" means late."""
    local: bool = False
    """No layer sees the whole picture: norms normalise each pixel by itself, and attention is to the caption's tokens
    alone (there is none without tokens). Trained on crops, such a network draws any size in the same way."""

    token_attention: Literal["joint", "cross"] = "joint"
    """The way of text tokens into attention. joint: their keys and values are beside those of the pixels (GLIDE,
    2112.10741). cross: each pixel attends to the pixels, then to the tokens alone (latent diffusion, 2112.10752,
    section 3.3). A `local` network has attention to tokens only."""

    self_condition: bool = False
    """The network also receives its own last estimate of x0, or zeros if there is none (2208.04202, section 3.2)."""
    inner_head: Annotated[int, Range(0, 2048)] = 0
    """Downsampling factor of the decoder's level with an output of its own (`glide.networks.inner_head`); 0: none."""

    @property
    def stem_channels(self) -> int:
        """Channels of the stem's input, without those of input planes."""
        pixels = self.in_channels * (2 if self.self_condition else 1)
        return pixels * self.patch_size**2 + 4 * self.coordinates

    @property
    def factor(self) -> int:
        """Factor of which heights and widths must be multiples."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)

    def heads(self, channels: int, up: bool = False) -> int:
        """Number of attention heads in a layer of `channels` channels. up: in the decoder."""
        if self.head_channels:
            return channels // self.head_channels
        return self.num_heads_upsample if up and self.num_heads_upsample else self.num_heads

    def check(self) -> None:
        """Raise InputError for sizes that do not fit each other."""
        need(self.channel_mult, "got no channel_mult, expected one for each level")
        last = len(self.channel_mult) - 1
        for mult in self.channel_mult:
            need(
                int(mult * self.channels) >= 1,
                f"channel_mult {mult:g} of {self.channels} channels leaves none, expected 1 or more",
            )
        if not self.local:
            self.check_heads()
        self.check_annotated()
        check_inner_head(self.inner_head, last + 1)
        need(
            self.image_size % self.factor == 0,
            f"image_size {self.image_size} is halved {last} times in patches of {self.patch_size}, expected a "
            f"multiple of {self.factor}",
        )
        # the stem's level, whose activations are the largest: its skips, and the working memory of a block
        side = self.image_size // self.patch_size
        width = max(int(self.channel_mult[0] * self.channels), self.stem_channels)
        needed = 4 * side**2 * width * (self.num_res_blocks + 4)
        check_file_fits(needed, f"image_size {self.image_size}", "one picture")

    def check_annotated(self) -> None:
        """InputError for the annotated diffusion model's parts beside others with which they have no meaning."""
        standardized = self.blocks == "standardized"
        need(
            not standardized or (self.scale_shift and not self.local),
            "got blocks standardized without scale_shift or with local, expected scale_shift alone",
        )
        need(
            not (standardized or self.unshuffle) or not self.resblock_updown,
            "got blocks standardized or unshuffle with resblock_updown, expected resblock_updown false",
        )
        need(not self.linear_attention or not self.local, "got linear_attention with local, expected one")

    def check_heads(self) -> None:
        """InputError where a layer with attention cannot be split into heads; a local network has one only for text."""
        last = len(self.channel_mult) - 1
        for level, mult in enumerate(self.channel_mult):
            if level != last and 2**level not in self.attention:
                continue
            width = int(mult * self.channels)
            for heads in {self.heads(width), self.heads(width, up=True)}:
                need(
                    heads and width % heads == 0 and width % (self.head_channels or 1) == 0,
                    f"{width} channels (channel_mult {mult:g}) cannot be split into attention heads, expected a "
                    f"multiple of {self.head_channels or heads} (channels, and num_heads or head_channels)",
                )


@dataclass(frozen=True)
class TextConfig:
    """Sizes of the text transformer."""

    vocab: Annotated[int, Range(1, 2**24)] = 50257
    context: Annotated[int, Range(1, 65536)] = 128
    width: Annotated[int, Range(1, 65536)] = 512
    layers: Annotated[int, Range(0, 1000)] = 16
    heads: Annotated[int, Range(1, 65536)] = 8
    padding: bool = True
    """Padded positions have embeddings of their own."""
    final_norm: bool = True
    pooled: Literal["last", "mean"] = "last"
    """The vector that is added to the time embedding: the last token's output (GLIDE), or the mean of the caption's
    own. The mean holds every word from the first step on, so small models bind words to pictures many times sooner."""

    def check(self) -> None:
        """InputError for sizes that do not fit each other."""
        need(
            self.width % self.heads == 0,
            f"got text.width {self.width}, expected a multiple of text.heads {self.heads}",
        )


@dataclass(frozen=True)
class FirstStageConfig:
    """The autoencoder whose latents a model draws (latent diffusion, 2112.10752)."""

    source: str = ""
    """Name of an embedded autoencoder, or a hub id; empty: the model's folder holds it."""
    fingerprint: str = ""
    """Of its weights, as `glide.checkpoints.provenance.fingerprint`."""
    factor: Annotated[int, Range(1, 256)] = 4
    """Factor by which a latent is smaller than its picture."""
    channels: Annotated[int, Range(1, 1024)] = 3
    """Channels of a picture."""


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild a model."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    text: TextConfig | None = None
    """The text encoder that is trained with the model."""
    num_classes: Annotated[int, Range(0, 2**24)] = 0
    null_class: bool = False
    """One more class, numbered `num_classes`, that stands for "no class": the null of classifier-free guidance."""
    class_names: Annotated[tuple[str, ...], Entries(2**24)] = ()
    low_res: bool = False
    """Conditioned on a low-resolution picture, enlarged to as many input planes as a picture has channels."""
    scale: Annotated[int, Range(2, 256)] = 4
    """(low_res) How many times higher and wider the picture is than the low-resolution one."""
    low_res_noise: bool = False
    """(low_res) Conditioned on the noise that was added to the low-resolution picture (cascaded diffusion,
    2106.15282)."""
    inpaint: bool = False
    """Conditioned on a masked picture and its mask: input planes for its channels and one more."""
    conditions: Annotated[tuple[str, ...], Entries(16)] = ()
    """Pictures that it is conditioned on besides words, each "KIND:ARGUMENT" (`glide.networks.picture_conditions`)."""
    null_condition: bool = False
    """(conditions, image_encoder) Trained with them left out, too, so that each can have a guidance of its own."""
    image_encoder: ImageEncoderConfig | None = None
    """Conditioned on the embedding of a picture by this frozen encoder, besides words (DALL-E 2, 2204.06125)."""
    process: ProcessConfig = field(default_factory=ProcessConfig)
    first_stage: FirstStageConfig | None = None
    """Of a model that draws latents: its U-Net's sizes and channels are those of latents."""
    text_encoder: FrozenTextConfig | None = None
    """A frozen text encoder, in place of `text`."""
    student: StudentConfig | None = None  # of a distilled model
    augmentation: bool = False
    """In training an input says how each picture was moved (EDM, 2206.00364, appendix F.2); sampling has none."""
    sizes: Annotated[tuple[str, ...], Entries(256)] = ()
    """Of the pictures in training, WIDTHxHEIGHT, the default first; none: squares of the U-Net's `image_size`."""

    @property
    def picture_size(self) -> int:
        """Height and width of a picture in pixels."""
        return self.unet.image_size * (self.first_stage.factor if self.first_stage else 1)

    @property
    def picture_channels(self) -> int:
        """Channels of a picture."""
        return self.first_stage.channels if self.first_stage else self.unet.in_channels

    @property
    def conditioned_on_pictures(self) -> bool:
        """True for a model that is conditioned on pictures, as planes or by an embedding."""
        return bool(self.conditions) or self.image_encoder is not None

    @property
    def reads_captions(self) -> bool:
        """True for a model that is conditioned on captions, whatever encodes them."""
        return self.text is not None or self.text_encoder is not None

    @property
    def token_width(self) -> int:
        """Width of the text tokens that attention receives; 0 without captions."""
        encoder = self.text or self.text_encoder
        return 0 if encoder is None else encoder.width

    @property
    def low_res_size(self) -> int:
        """(low_res) Height and width of the low-resolution picture of one of the model's own size."""
        return self.unet.image_size // self.scale

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        check_class_names(self.num_classes, self.class_names)
        for text in self.sizes:
            factor = self.unet.factor * (self.first_stage.factor if self.first_stage else 1)
            check_multiple(parse_size(text, "model.sizes"), factor, "model.sizes")
        need(
            self.text is None or self.text_encoder is None,
            "got both text and text_encoder, expected one of them, as captions have one encoder",
        )
        if self.unet.local and self.reads_captions:
            self.unet.check_heads()
        need(
            not (self.unet.linear_attention and self.reads_captions) or self.unet.token_attention == "cross",
            "got captions for a U-Net with linear_attention, which has no text in it, expected token_attention cross",
        )
        pixels, out = self.unet.in_channels, self.unet.out_channels
        learned = self.process.variance == "learned"
        need(
            out == 2 * pixels or (out == pixels and not learned),
            f"got out_channels {out} for in_channels {pixels} and variance {self.process.variance}, expected "
            f"{2 * pixels}" + ("" if learned else f" or {pixels}"),
        )
        need(
            not self.process.zero_terminal_snr or self.process.prediction != "eps",
            "got zero_terminal_snr with prediction eps, which tells nothing of x0 in pure noise, expected v or x0",
        )
        need(not self.null_class or self.num_classes, "got null_class without classes, expected num_classes")
        need(
            not self.low_res or self.first_stage is None,
            "got low_res with a first stage, expected an upsampler of pixels: leave one out",
        )
        kinds = [spec.partition(":")[0] for spec in self.conditions]
        need(
            len(set(kinds)) == len(kinds),
            f"got two conditions of one kind ({', '.join(self.conditions)}), expected one of each: leave one out",
        )
        need(
            not (self.conditioned_on_pictures and self.low_res),
            "got conditions or image_encoder for an upsampler, expected a model that draws",
        )
        need(
            self.conditioned_on_pictures or not self.null_condition,
            "got null_condition without conditions or image_encoder, expected one",
        )
        need(not self.low_res_noise or self.low_res, "got low_res_noise without low_res, expected both")
        need(
            not self.low_res or self.unet.image_size % self.scale == 0,
            f"image_size {self.unet.image_size} is no multiple of the scale {self.scale}, expected one",
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`, also after a trip through JSON. Raises InputError on unknown fields."""
        return config_from_dict(cls, values, "model")


def check_class_names(num_classes: int, names: Sequence[str]) -> None:
    """InputError unless there is a name for each class, or none at all."""
    need(
        len(names) in (0, num_classes),
        f"got {len(names)} class_names for {num_classes} classes, expected one for each, or none",
    )
