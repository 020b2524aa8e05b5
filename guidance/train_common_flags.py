"""The flags that the trainings of a noisy classifier and of a noisy CLIP share. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from glide.data.skipped_files import MAX_BROKEN
from glide.diffusion.timestep_config import TimestepConfig
from glide.utils.plots import figure
from glide.utils.ranges import check_numbers


@dataclass(frozen=True)
class TrainGuide:
    """Settings of any guide's training."""

    out: Path
    """Folder of the run: log.jsonl, levels.jsonl (measured on held-out data at each noise level), checkpoints/, and
    the guide itself, which the sample command takes as --classifier or --clip."""
    recipe: str | None = None
    """A published configuration, whose batch, steps, rate and preset stand in for flags that are not given
    (`glide.training.published_recipes`)."""
    like: str | None = None
    """The diffusion model to steer: its noise and resolution must be the guide's. By default the noise is that of
    the preset's base model."""
    first_stage: str | None = None
    """Learn from the latents of this autoencoder in place of pixels: a folder of train_autoencoder.py, an embedded
    name, a hub id; by default that of --like, where that model draws latents. The sizes of the preset are then those
    of latents."""
    config: Path | None = None
    """TOML file with settings of the guide, on top of the preset; the flags of the guide come before it."""
    show_config: bool = False
    """Print the guide's whole configuration as such a file, with the source of each value, and exit."""
    model: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Settings of the guide by key, such as "process.steps", from the flags of its `config_flags`."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    overwrite: bool = False
    """A new run takes the place of a model that is in --out."""
    held_out: float = 0.05
    """Share of the pictures of a folder or of shards that are left out of training and measured; 0 to measure
    nothing."""
    levels: int = 10
    """Noise levels at which they are measured."""
    plot: bool = False
    """Also draw the noise levels, as samples/0001000.png, ... (needs matplotlib)."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random; captions that say "left" are then wrong."""
    max_broken: float = MAX_BROKEN
    """Share of damaged pictures, and of those without a caption, that are skipped and counted."""
    workers: int | None = None
    """Threads that read and decode pictures; by default 1 beside a network on the CPU, else up to 8."""
    practice: Annotated[TimestepConfig, tyro.conf.arg(name="")] = field(default_factory=TimestepConfig)
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""

    def check(self) -> None:
        """InputError for settings that cannot be, before anything is read."""
        check_numbers(self)
        if self.plot:
            figure()  # that matplotlib is missing is said now, not after the first thousand steps

    def reading(self, seed: int) -> dict[str, Any]:
        """The arguments with which every data set of the run is opened."""
        return {"seed": seed, "max_broken": self.max_broken, "held_out": self.held_out}
