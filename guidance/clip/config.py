"""The configuration of a noisy CLIP, and known configurations by name. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from glide.networks.config import FirstStageConfig, ProcessConfig, TextConfig, UNetConfig
from glide.networks.image_config import ImageConfig
from glide.networks.presets import PRESETS
from glide.utils.config_check import config_from_dict
from glide.utils.numbers import Range


@dataclass(frozen=True)
class ClipConfig:
    """Everything needed to rebuild a noisy CLIP."""

    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(
        default_factory=lambda: TextConfig(
            vocab=65536, context=77, width=512, layers=12, heads=8, padding=False
        )
    )
    embedding: Annotated[int, Range(1, 65536)] = 512
    """Width of the space in which pictures and captions meet."""
    process: ProcessConfig = field(default_factory=ProcessConfig)
    """The noise it knows; `prediction` and `variance` have no meaning here."""
    trunk: UNetConfig | None = None
    """In place of the vision transformer: the down path of this U-Net, which may begin as that of a diffusion model."""

    first_stage: FirstStageConfig | None = None
    """Of a CLIP of latents: its picture tower's sizes and channels are those of latents."""

    @property
    def image_size(self) -> int:
        """Pixels, or latents, wide and high."""
        return self.image.size if self.trunk is None else self.trunk.image_size

    @property
    def channels(self) -> int:
        """Of pixels, or latents."""
        return self.image.channels if self.trunk is None else self.trunk.in_channels

    @property
    def picture_size(self) -> int:
        """Height and width of a picture in pixels."""
        return self.image_size * (self.first_stage.factor if self.first_stage else 1)

    @property
    def picture_channels(self) -> int:
        """Channels of a picture."""
        return self.first_stage.channels if self.first_stage else self.channels

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipConfig:
        """The inverse of `to_dict`, also after a trip through JSON. InputError on what it does not know."""
        return config_from_dict(cls, values, "clip")


_small_text = TextConfig(vocab=512, context=24, width=128, layers=3, heads=4, padding=False)


CLIPS: dict[str, ClipConfig] = {
    # for a look at the training loop, in seconds
    "tiny": ClipConfig(
        image=ImageConfig(size=16, patch=4, width=32, layers=1, heads=2, stem=(16,), pool="mean"),
        text=TextConfig(vocab=512, context=24, width=32, layers=1, heads=2, padding=False),
        embedding=32,
        process=PRESETS["tiny"].process,
    ),
    # for the small models of the built-in scenes; both see the same grid of 8x8 tokens
    "shapes-32": ClipConfig(
        image=ImageConfig(size=32, patch=4, width=192, layers=6, heads=6, stem=(32,), pool="mean"),
        text=_small_text,
        embedding=128,
        process=PRESETS["shapes-32"].process,
    ),
    "shapes-64": ClipConfig(
        image=ImageConfig(size=64, patch=8, width=192, layers=6, heads=6, stem=(32, 64), pool="mean"),
        text=_small_text,
        embedding=128,
        process=PRESETS["shapes-64"].process,
    ),
    # the published sizes
    "glide": ClipConfig(),
}
"""Known configurations by name. The vocabulary is set when the tokenizer is trained or given."""
