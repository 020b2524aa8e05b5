"""The configuration of a prior, and known ones by name. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from glide.networks.config import ProcessConfig, TextConfig
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.utils.config_check import Entries, config_from_dict, need
from glide.utils.numbers import Range

# x0: in a space without structure between neighbours noise is as hard to predict at any level (DALL-E 2, section 2.2)
_process = ProcessConfig(prediction="x0", variance="fixed_small")


@dataclass(frozen=True)
class PriorConfig:
    """Everything needed to rebuild a prior: from a caption to the embedding of a picture."""

    width: Annotated[int, Range(2, 65536)] = 160
    layers: Annotated[int, Range(0, 1000)] = 4
    heads: Annotated[int, Range(1, 65536)] = 5
    text: TextConfig = field(default_factory=TextConfig)
    """The text encoder that is trained with it."""
    process: ProcessConfig = _process
    image_encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    """The encoder whose embeddings it draws."""
    mean: Annotated[tuple[float, ...], Entries(65536)] = ()
    std: Annotated[tuple[float, ...], Range(1e-12, 1e12), Entries(65536)] = ()
    """Mean and standard deviation of each number of an embedding over the data, by which embeddings are normalised."""
    unit: bool = False
    """Embeddings have norm 1, so drawn ones are brought to it."""

    def check(self) -> None:
        """InputError for sizes that do not fit each other."""
        need(
            self.width % self.heads == 0,
            f"got prior.width {self.width}, expected a multiple of prior.heads {self.heads}",
        )
        count = self.image_encoder.width
        need(
            len(self.mean) == len(self.std) and len(self.mean) in (0, count),
            f"got {len(self.mean)} means and {len(self.std)} deviations for embeddings of {count} numbers, expected "
            "one of each for each number, or none",
        )
        need(
            self.process.variance != "learned",
            "got process.variance learned for a prior, which predicts the embedding alone, expected fixed_small or "
            "fixed_large",
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriorConfig:
        """The inverse of `to_dict`, also after a trip through JSON. InputError on unknown fields."""
        return config_from_dict(cls, values, "prior")


_source = ImageEncoderConfig(source="unknown")  # until --image-encoder names one
_small_text = TextConfig(vocab=512, context=24, width=128, layers=3, heads=4, pooled="mean")

PRIORS: dict[str, PriorConfig] = {
    # for a look at the training loop, in seconds
    "tiny": PriorConfig(
        width=32,
        layers=1,
        heads=2,
        text=TextConfig(vocab=512, context=24, width=32, layers=1, heads=2, pooled="mean"),
        image_encoder=_source,
    ),
    # for the built-in scenes: two million weights
    "shapes": PriorConfig(text=_small_text, image_encoder=_source),
    # the published sizes (2204.06125, table 3): a billion weights
    "dalle-2": PriorConfig(
        width=2048,
        layers=24,
        heads=32,
        text=TextConfig(context=77, width=1024, layers=24, heads=16, pooled="mean"),
        image_encoder=_source,
    ),
}
"""Known configurations by name. The vocabulary is set when the tokenizer is trained."""
