"""Configuration of a frozen image encoder, and the names by which one is given.

Imports no torch, as flags read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from glide.utils.config_check import need
from glide.utils.entry_points import names_of, plug_ins
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID
from glide.utils.json_files import read_table
from glide.utils.numbers import Range, shown_number

GROUP = "glide.image_encoders"
"""Entry points of further kinds: functions (place) -> `glide.networks.image_encoder.PretrainedImages`, for
KIND:PLACE. The noisy CLIP comes in by it, too."""
KINDS: tuple[str, ...] = ("clip", "dinov2")
"""Those of transformers."""
MODEL_TYPES = {"clip": "clip", "clip_vision_model": "clip", "dinov2": "dinov2"}
"""The kind of a folder of transformers, by the `model_type` in its config.json."""
OWN_KINDS = {"classifier": "classifier", "clip": "noisy-clip"}
"""The kind of a model folder of this toolkit, by the `kind` in its config.json."""


@dataclass(frozen=True)
class ImageEncoderConfig:
    """An image encoder that is not trained: the one whose embeddings of pictures a model receives, or draws."""

    kind: str = "clip"
    """clip, dinov2, noisy-clip, or another package's."""
    source: str = ""
    """Hub id, name of an embedded model, or the name of the folder, as it was given."""
    path: str = ""
    """The folder, where the encoder is in one."""
    revision: str = ""
    """Commit of the hub."""
    fingerprint: str = ""
    """Of its weights, and of the size, mean and deviation of its pictures (`glide.checkpoints.image_encoders`)."""
    width: Annotated[int, Range(0, 65536)] = 0
    """Numbers of an embedding; 0 until the encoder was read."""

    @property
    def name(self) -> str:
        """KIND:PLACE, or KIND alone, as it was given."""
        alone = self.source == self.kind and self.kind not in KINDS
        return self.kind if alone else f"{self.kind}:{self.source}"

    def check(self) -> None:
        """InputError for settings of no encoder."""
        need(self.source, "got settings of an image encoder without one, expected --image-encoder")


def kinds() -> list[str]:
    """All kinds of image encoders, those of other packages too."""
    return names_of(GROUP, KINDS)


def read_name(name: str) -> tuple[str, str]:
    """Kind and place of an image encoder: "clip:org/name@revision", "noisy-clip:shapes-clip", or a folder alone.

    A kind of a package that has one encoder alone is its own place: "efficientnet-lite0".

    InputError for a name that is none of these.
    """
    kind, colon, place = name.partition(":")
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return _kind_of(folder), name
    if name in plug_ins(GROUP):
        return name, name
    if not colon or not place:
        raise InputError(
            f"got the image encoder {name!r}, expected KIND:PLACE or a folder with its config.json: check the name; "
            f"kinds are {', '.join(kinds())}"
        )
    if kind not in kinds():
        hint = "choose one of these"
        if kind in OWN_KINDS.values():
            hint = f"install the package (pip install .), which adds {kind}"
        raise InputError(f"got the image encoder {name!r}, expected the kind {' or '.join(kinds())}: {hint}")
    if kind in KINDS and not Path(place).expanduser().is_dir() and not HUB_ID.fullmatch(place):
        raise InputError(
            f"got the image encoder {name!r}, expected {kind}: with a hub id (org/name) or a folder: check the name"
        )
    return kind, place


def _kind_of(folder: Path) -> str:
    """The kind of the encoder in a folder. InputError for that of another model."""
    table: dict[str, Any] = read_table(folder / "config.json")
    found = table.get("model_type", table.get("kind"))
    known = MODEL_TYPES if "model_type" in table else OWN_KINDS
    if found not in known:
        raise InputError(
            f"got the image encoder {folder} of the kind {shown_number(found)}, expected one of "
            f"{', '.join(sorted({*MODEL_TYPES, *OWN_KINDS.values()}))}: give another"
        )
    kind = known[str(found)]
    if kind not in KINDS and kind not in plug_ins(GROUP):
        raise InputError(
            f"got the image encoder {folder}, expected the package that reads {kind}: install it (pip install .)"
        )
    return kind
