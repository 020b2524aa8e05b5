"""The models of a server: labels for browsers, and pipelines, loaded when they are first used by the thread that draws.

Imports nothing heavy before a model is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glide.utils.errors import InputError
from glide.utils.json_files import read_table
from toolkit.pipelines.settings import SamplingConfig
from upsampler.presets import EMBEDDED

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline
    from toolkit.pipelines.upscale import Upscaler

DEFAULT = ("shapes", "emoji", "shapes-latent")
"""Embedded models."""


def labels(names: Sequence[str]) -> dict[str, str]:
    """Labels of models -> their names: the last part of a path, with a number where two are alike."""
    found: dict[str, str] = {}
    for name in names:
        plain = Path(name).name or name
        label, number = plain, 2
        while label in found:
            label, number = f"{plain} ({number})", number + 1
        found[label] = name
    return found


@dataclass(eq=False)
class ServedModels:
    """Models by label. Only the thread that draws calls `pipe` and `upscaler`."""

    names: dict[str, str]
    device: str = "auto"
    dtype: str = "auto"
    upsampler: str | None = None
    """Name of the upsampler of all models; None: the one in a model's folder, or the embedded one of its name."""
    pipes: dict[str, Pipeline] = field(default_factory=dict)
    upscalers: dict[str, Upscaler] = field(default_factory=dict)
    beside: dict[str, Path | None] = field(default_factory=dict)
    """Folders of the upsamplers in the folders of models, by label."""
    failures: dict[str, str] = field(default_factory=dict)
    """The reasons why models could not be loaded."""

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, the default one first."""
        return tuple(self.names)

    def pipe(self, label: str) -> Pipeline:
        """InputError where the model cannot be loaded."""
        if label not in self.pipes:
            from glide.checkpoints.model_parts import with_part
            from toolkit.pipelines.pipeline import Pipeline

            self.pipes[label] = Pipeline.from_pretrained(self.names[label], self.device, self.dtype)
            self.beside[label] = None if self.upsampler else with_part(self.names[label], "upsampler")
        return self.pipes[label]

    def try_to_load(self, label: str) -> None:
        """Load a model ahead; a failure is noted."""
        try:
            self.pipe(label)
        except InputError as error:
            self.failures[label] = str(error)

    def upscaler(self, label: str) -> Upscaler:
        """The model's upsampler. InputError where there is none."""
        name = self.upsampler_of(label)
        if name is None:
            raise InputError(
                f"got a picture of {label} to enlarge, which has no embedded upsampler, expected one: start the "
                "server with --upsampler NAME"
            )
        if name not in self.upscalers:
            from toolkit.pipelines.upscale import Upscaler

            self.upscalers[name] = Upscaler.load(name, self.device, self.dtype)
        return self.upscalers[name]

    def upsampler_of(self, label: str) -> str | None:
        """The name of a model's upsampler: that of a loaded model which brings one is the model's own name."""
        if self.upsampler is not None:
            return self.upsampler
        if self.beside.get(label) is not None:
            return self.names[label]
        own = Path(self.names[label]).name
        return own if (EMBEDDED / own / "config.json").is_file() else None

    def about(self, label: str) -> dict[str, Any]:
        """Facts of a model for the page, JSON-able; a short list while it is not loaded."""
        found: dict[str, Any] = {"label": label, "loaded": label in self.pipes}
        pipe = self.pipes.get(label)
        if pipe is None:
            return found | ({"failure": self.failures[label]} if label in self.failures else {})
        config = pipe.model.config
        found |= {"size": config.picture_size, "captions": config.reads_captions, "inpaints": config.inpaint}
        found |= {"classes": list(config.class_names) or [str(i) for i in range(config.num_classes)]}
        found |= {"guided": pipe.conditioner.has_null, "timesteps": len(pipe.model.process)}
        found |= {
            "conditions": [spec.partition(":")[0] for spec in config.conditions],
            "channels": config.picture_channels,
        }
        found |= {"dtype": str(pipe.dtype).removeprefix("torch."), "device": pipe.device.type}
        if config.student is not None:
            own = SamplingConfig().settled(config)
            found["own"] = {"sampler": own.sampler, "steps": own.respacing, "spacing": own.spacing or ""}
        name = self.upsampler_of(label)
        if name is not None and config.picture_channels == 3:
            found["enlarged"] = config.picture_size * _scale(str(self.beside.get(label) or name))
        return found


def _scale(name: str) -> int:
    """Factor of an upsampler, from its configuration where it is a folder; 4 is what the published ones have."""
    folder = EMBEDDED / name if (EMBEDDED / name).is_dir() else Path(name)
    try:
        return int(read_table(folder / "config.json")["model"]["scale"])
    except (InputError, OSError, KeyError, TypeError, ValueError):
        return 4
