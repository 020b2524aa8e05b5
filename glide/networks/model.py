"""Model = text and label encoders + U-Net; its configuration, and the table of known configurations.

Shape letters: N batch, C channels, H W pixels, L tokens.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import Process
from glide.networks.config import UNetConfig
from glide.networks.layers import linear_by_rows, timestep_embedding, zero_init
from glide.networks.text_encoder import TextEncoder
from glide.networks.unet import UNet
from glide.utils.config_check import Entries, config_from_dict, need
from glide.utils.errors import InputError
from glide.utils.numbers import Range

if TYPE_CHECKING:
    from glide.networks.tokenizer import Tokenizer


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
    """What joins the time embedding: the last token's output (GLIDE), or the mean of the caption's own. The mean holds
    every word from the first step on, so small models bind words to pictures many times sooner."""

    def check(self) -> None:
        """InputError for sizes that do not fit each other."""
        need(
            self.width % self.heads == 0,
            f"a text width of {self.width} cannot be split into {self.heads} attention heads, expected a multiple",
        )


@dataclass(frozen=True)
class ProcessConfig:
    """The noise schedule a model was trained with, and what its output means."""

    schedule: Literal["linear", "squaredcos_cap_v2", "cosine", "quadratic", "sigmoid"] = "squaredcos_cap_v2"
    steps: Annotated[int, Range(1, 100_000)] = 1000
    shift: Annotated[float, Range(1e-3, 1e3)] = 1.0
    """Divides the signal-to-noise ratio by shift**2: more noise at every step."""
    zero_terminal_snr: bool = False
    prediction: Literal["eps", "x0", "v"] = "eps"
    variance: Literal["learned", "fixed_small", "fixed_large"] = "learned"
    """The ancestral sampler's; "learned" needs a U-Net with twice the image's channels."""

    def build(self) -> Process:
        return make_process(self.schedule, self.steps, self.shift, self.zero_terminal_snr)

    def check(self) -> None:
        """InputError for numbers that give no process."""
        try:
            self.build()
        except AssertionError as error:  # rounding makes of two steps one
            raise InputError(
                f"the noise schedule {self.schedule} with {self.steps} steps and shift {self.shift:g} does not add "
                "noise at every step, expected one that does: use 1000 steps and shift 1"
            ) from error


@dataclass(frozen=True)
class ModelConfig:
    """Everything needed to rebuild a model."""

    unet: UNetConfig = field(default_factory=UNetConfig)
    text: TextConfig | None = None
    num_classes: Annotated[int, Range(0, 2**24)] = 0
    null_class: bool = False
    """One more class, numbered `num_classes`, that stands for "no class": the null of classifier-free guidance."""
    class_names: Annotated[tuple[str, ...], Entries(2**24)] = ()
    low_res: bool = False
    """Conditioned on a low-resolution picture, enlarged to as many input planes as a picture has channels."""
    scale: Annotated[int, Range(2, 256)] = 4
    """(low_res) How many times higher and wider the picture is than the low-resolution one."""
    low_res_noise: bool = False
    """(low_res) Told how much noise was added to the low-resolution picture (cascaded diffusion, 2106.15282)."""
    inpaint: bool = False
    """Conditioned on a masked picture and its mask: input planes for its channels and one more."""
    process: ProcessConfig = field(default_factory=ProcessConfig)

    @property
    def planes(self) -> int:
        """Input channels besides those of x_t: the known pixels and their mask, the low-resolution picture."""
        return (self.unet.in_channels + 1) * self.inpaint + self.unet.in_channels * self.low_res

    @property
    def low_res_size(self) -> int:
        """(low_res) Height and width of the low-resolution picture of one of the model's own size."""
        return self.unet.image_size // self.scale

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        check_class_names(self.num_classes, self.class_names)
        pixels, out = self.unet.in_channels, self.unet.out_channels
        learned = self.process.variance == "learned"
        need(
            out == 2 * pixels or (out == pixels and not learned),
            f"a U-Net of {pixels} channels puts out {out}, expected {2 * pixels}"
            + ("" if learned else f" or {pixels}"),
        )
        need(not self.null_class or self.num_classes, "got null_class without classes, expected num_classes")
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


class Model(nn.Module):
    """A diffusion model: `condition` once a picture, then the U-Net once a step."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer | None = None) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer
        self.commit: str | None = None
        """Of the hub, where it was fetched from there."""
        emb_width = 4 * config.unet.channels
        self.text: TextEncoder | None = None
        if config.text is not None:
            c = config.text
            self.text = TextEncoder(c.vocab, c.context, c.width, c.layers, c.heads, c.padding, c.final_norm)
            self.text_vector = nn.Linear(c.width, emb_width)
        if config.num_classes:
            self.label = nn.Embedding(config.num_classes + config.null_class, emb_width)
        if config.low_res_noise:
            self.level_in = nn.Linear(config.unet.channels, emb_width)
            # from nothing: an upsampler that was never told of noise begins as it was
            self.level_out = zero_init(nn.Linear(emb_width, emb_width))
        self.unet = UNet(config.unet, config.planes, config.text.width if config.text else 0)

    @cached_property
    def process(self) -> Process:
        return self.config.process.build()

    @property
    def device(self) -> torch.device:
        return self.unet.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The type that the U-Net computes in."""
        return self.unet.stem.weight.dtype

    def condition(self, batch: Mapping[str, Tensor], size: tuple[int, int] | None = None) -> Conditioning:
        """Encode what the network is told besides x_t and t, a picture of `size` (the model's own by default).

        batch: the keys that this model takes: tokens [N,L] int64 with mask [N,L] bool; y [N] int64;
        low_res [N,C,h,w] with low_res_level [N], 0 where it is not given; inpaint_image [N,C,H,W] with inpaint_mask
        [N,1,H,W], 1 where a pixel is known; estimate [N,C,H,W], its own of x0, where there is one.
        """
        told = self.encode(batch)
        planes, level = self.input_planes(batch, size), self.low_res_level(batch)
        return replace(told, planes=planes, level=level, estimate=batch.get("estimate"))

    def encode(self, batch: Mapping[str, Tensor]) -> Conditioning:
        """What `condition` says in words: captions and classes, no planes.

        batch may also hold keep_vector [N], 1 or 0: where it is 0 the caption reaches the network by its tokens alone.
        """
        vector = tokens = None
        if self.text is not None:
            tokens = self.text(batch["tokens"], batch.get("mask"))
            vector = linear_by_rows(self.text_vector, self._pooled(tokens, batch.get("mask")), self.dtype)
            if "keep_vector" in batch:
                vector = vector * batch["keep_vector"][:, None]
        if self.config.num_classes:
            label = self.label(batch["y"])
            vector = label if vector is None else vector + label
        return Conditioning(vector=vector, tokens=tokens)

    def _pooled(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """[N,L,D] -> [N,D]; of the null caption, which has no tokens of its own, the mean is 0."""
        assert self.config.text is not None
        if self.config.text.pooled == "last":
            return tokens[:, -1]
        own = torch.ones_like(tokens[..., :1]) if mask is None else mask[..., None].to(tokens)  # [N,L,1]
        return (tokens * own).sum(dim=1) / own.sum(dim=1).clamp(min=1.0)

    def nothing_known(self, images: int, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """What a model that inpaints is shown where it draws all of so many pictures; of others nothing.

        size: (H, W), by default the model's own.
        """
        if not self.config.inpaint:
            return {}
        nothing = torch.zeros(images, 1, *(size or (self.config.unet.image_size,) * 2), device=self.device)
        return {
            "inpaint_image": nothing.expand(-1, self.config.unet.in_channels, -1, -1),
            "inpaint_mask": nothing,
        }

    def input_planes(self, batch: Mapping[str, Tensor], size: tuple[int, int] | None = None) -> Tensor | None:
        """The planes concatenated to x_t: masked picture, mask, enlarged low-resolution picture, as trained."""
        planes = []
        if self.config.inpaint:
            mask = batch["inpaint_mask"]
            planes += [batch["inpaint_image"] * mask, mask]
        if self.config.low_res:
            size = size or (self.config.unet.image_size,) * 2
            planes.append(F.interpolate(batch["low_res"], size, mode="bilinear", align_corners=False))
        return torch.cat(planes, dim=1) if planes else None

    def low_res_level(self, batch: Mapping[str, Tensor]) -> Tensor | None:
        """The embedding [N,E] of how noisy the low-resolution picture is, for a model that receives it.

        low_res_level [N]: the noise's standard deviation, 0 (none) to 1 (nothing else), see `upsampler.low_res`.
        """
        if not self.config.low_res_noise:
            return None
        level = batch.get("low_res_level")
        if level is None:
            level = batch["low_res"].new_zeros(len(batch["low_res"]))
        features = timestep_embedding(1000.0 * level, self.config.unet.channels)
        hidden = linear_by_rows(self.level_in, features, self.dtype)
        return linear_by_rows(self.level_out, F.silu(hidden), self.dtype)

    def forward(self, x: Tensor, t: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """x [N,C,H,W] at training timesteps t [N] -> [N,out_channels,H,W]."""
        return self.unet(x, t, self.condition(batch, (x.shape[-2], x.shape[-1])))

    def caption_batch(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """Captions -> tokens and mask on the model's device; "" is the null caption."""
        if self.tokenizer is None:
            raise InputError(
                "this model has no tokenizer, so it reads no captions: load it with its vocabulary (--vocab), a folder "
                "or hub id with vocab.json and merges.txt"
            )
        tokens, mask = self.tokenizer.encode(list(captions))
        return {"tokens": tokens.to(self.device), "mask": mask.to(self.device)}

    def label_batch(self, labels: Sequence[int]) -> dict[str, Tensor]:
        """Class numbers -> y on the model's device; `num_classes` is the null class where the model has one."""
        return {"y": torch.tensor(list(labels), dtype=torch.int64, device=self.device)}


def _adm(size: int, channels: int, mult: tuple[float, ...], blocks: int, **kwargs: Any) -> UNetConfig:
    attention = tuple(size // r for r in (32, 16, 8))
    return UNetConfig(size, 3, 6, channels, mult, blocks, attention, **kwargs)


def _ddpm(channels: int, mult: tuple[float, ...], dropout: float) -> UNetConfig:
    return UNetConfig(
        32,
        3,
        3,
        channels,
        mult,
        2,
        (2,),
        head_channels=0,
        scale_shift=False,
        resblock_updown=False,
        dropout=dropout,
    )


_ddpm_process = ProcessConfig("linear", variance="fixed_large")
_small_text = TextConfig(vocab=512, context=24, width=128, layers=3, heads=4, pooled="mean")
_small_process = ProcessConfig(shift=2.0, prediction="x0", variance="fixed_small")
_small_unet = UNetConfig(
    image_size=32,
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
_fine_unet = dataclasses.replace(
    _small_unet, image_size=64, channel_mult=(1, 1, 2, 2), attention=(4, 8), patch_size=2
)
_process_64 = dataclasses.replace(_small_process, shift=4.0)

PRESETS: dict[str, ModelConfig] = {
    # for a look at the training loop, in seconds; it learns little
    "tiny": ModelConfig(
        UNetConfig(16, 3, 3, 32, (1, 2), 1, (2,), head_channels=32, resblock_updown=False, patch_size=2),
        TextConfig(vocab=512, context=24, width=32, layers=1, heads=2),
        process=_small_process,
    ),
    # small models for the built-in scenes: minutes to hours on a laptop
    "shapes-32": ModelConfig(_small_unet, _small_text, process=_small_process),
    "shapes-64": ModelConfig(
        dataclasses.replace(_small_unet, image_size=64, patch_size=4),
        _small_text,
        process=_process_64,
    ),
    # one level more, at half the patch size: sharper outlines for 2.3 times the work
    "shapes-64-fine": ModelConfig(_fine_unet, _small_text, process=_process_64),
    # thousands of emoji in several styles: wider inside, and a longer vocabulary
    "emoji-64": ModelConfig(
        dataclasses.replace(_fine_unet, channel_mult=(1, 1, 2, 2.5)),
        dataclasses.replace(_small_text, vocab=2048, width=144),
        process=_process_64,
    ),
    # DDPM's for 32x32 (2006.11239, appendix B), and a narrower one for pictures as simple as Fashion-MNIST's
    "ddpm-32": ModelConfig(_ddpm(128, (1, 2, 2, 2), 0.1), process=_ddpm_process),
    "small-32": ModelConfig(_ddpm(64, (1, 2, 2), 0.1), process=_ddpm_process),
    # the published configurations
    "glide-base": ModelConfig(_adm(64, 192, (1, 2, 3, 4), 3, dropout=0.1), TextConfig()),
    "adm-64": ModelConfig(_adm(64, 192, (1, 2, 3, 4), 3, dropout=0.1), num_classes=1000),
    "adm-128": ModelConfig(
        _adm(128, 256, (1, 1, 2, 3, 4), 2, num_heads=4, head_channels=0),
        num_classes=1000,
        process=ProcessConfig("linear"),
    ),
    "adm-256": ModelConfig(
        _adm(256, 256, (1, 1, 2, 2, 4, 4), 2), num_classes=1000, process=ProcessConfig("linear")
    ),
    "adm-256-uncond": ModelConfig(_adm(256, 256, (1, 1, 2, 2, 4, 4), 2), process=ProcessConfig("linear")),
    "adm-512": ModelConfig(
        _adm(512, 256, (0.5, 1, 1, 2, 2, 4, 4), 2), num_classes=1000, process=ProcessConfig("linear")
    ),
}
"""Known configurations by name. The vocabulary of the small text models is set when their tokenizer is trained."""
