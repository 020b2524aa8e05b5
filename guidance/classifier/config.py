"""The configuration of a noisy classifier, and known configurations by name. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from glide.networks.config import FirstStageConfig, ProcessConfig, UNetConfig, check_class_names
from glide.networks.presets import PRESETS
from glide.utils.config_check import Entries, config_from_dict
from glide.utils.numbers import Range

Pool = Literal["attention", "adaptive", "spatial", "spatial_v2"]


POOLS = ("attention", "adaptive", "spatial", "spatial_v2")


@dataclass(frozen=True)
class ClassifierConfig:
    """Everything needed to rebuild a noisy classifier."""

    encoder: UNetConfig = field(default_factory=UNetConfig)
    """Sizes of the trunk; `out_channels` has no meaning here."""
    num_classes: Annotated[int, Range(1, 2**24)] = 1000
    class_names: Annotated[tuple[str, ...], Entries(2**24)] = ()
    """One for each class, or none at all."""
    pool: Pool = "attention"
    """From features to logits: attention to all places (ADM's), their mean ("adaptive"), or the means of every
    layer of the trunk through a small network ("spatial", and "spatial_v2" with a norm in it)."""
    process: ProcessConfig = field(default_factory=ProcessConfig)
    """The noise it knows; `prediction` and `variance` have no meaning here."""
    noised: bool = True
    """False: trained on clean pictures, so it knows nothing of noise and cannot guide."""
    first_stage: FirstStageConfig | None = None
    """Of a classifier of latents: the trunk's sizes and channels are those of latents."""

    @property
    def picture_size(self) -> int:
        """Height and width of a picture in pixels."""
        return self.encoder.image_size * (self.first_stage.factor if self.first_stage else 1)

    @property
    def picture_channels(self) -> int:
        """Channels of a picture."""
        return self.first_stage.channels if self.first_stage else self.encoder.in_channels

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """The inverse of `to_dict`, also after a trip through JSON. InputError on what it does not know."""
        return config_from_dict(cls, values, "classifier")

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        check_class_names(self.num_classes, self.class_names)


def _adm(base: str, depth: int) -> ClassifierConfig:
    """ADM's classifier for the published model of that preset: narrower, `depth` blocks a level."""
    model = PRESETS[base]
    encoder = dataclasses.replace(
        model.unet,
        out_channels=3,
        channels=128,
        num_res_blocks=depth,
        num_heads=1,
        head_channels=64,
        dropout=0.0,
    )
    process = ProcessConfig(model.process.schedule, model.process.steps)
    return ClassifierConfig(encoder, model.num_classes, process=process)


def _trunk_of(base: str) -> ClassifierConfig:
    """The down path of that preset's model: its gradient takes about half as long as the model itself."""
    return ClassifierConfig(PRESETS[base].unet, process=PRESETS[base].process)


_grey_28 = dataclasses.replace(
    PRESETS["shapes-32"].unet,
    image_size=28,
    in_channels=1,
    out_channels=1,
    channels=32,
    channel_mult=(1, 2),
    attention=(2,),
)

CLASSIFIERS: dict[str, ClassifierConfig] = {
    # for the models of these presets; the classes are those of the training data
    "tiny": _trunk_of("tiny"),
    "shapes-32": _trunk_of("shapes-32"),
    "shapes-64": _trunk_of("shapes-64"),
    # 0.4 million weights, for Fashion-MNIST
    "annotated-28": ClassifierConfig(_grey_28, process=PRESETS["annotated-28"].process),
    # the published configurations
    "adm-64": _adm("adm-64", 4),
    "adm-128": _adm("adm-128", 2),
    "adm-256": _adm("adm-256", 2),
    "adm-512": _adm("adm-512", 2),
}
"""Known configurations by name."""
