"""Configuration of a frozen text encoder of another library, and the names by which one is given.

Imports no torch, as flags read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from glide.utils.config_check import need
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID
from glide.utils.json_files import read_table
from glide.utils.numbers import Range, shown_number

Kind = Literal["clip", "t5", "bert"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MODEL_TYPES: dict[str, Kind] = {"clip": "clip", "clip_text_model": "clip", "t5": "t5", "bert": "bert"}
"""The kind of a folder, by the `model_type` in its config.json."""
POOLED: dict[Kind, Literal["end", "mean", "none"]] = {"clip": "end", "t5": "mean", "bert": "none"}
"""The pooled vector by default. The mean of a sentence encoder's tokens was trained to be alike for sentences of the
same words, so it cannot tell left from right: its tokens alone reach the network."""
CONTEXT = 128
"""Tokens by default, where the encoder takes as many."""


@dataclass(frozen=True)
class FrozenTextConfig:
    """A text encoder that is not trained: which one, and how its outputs reach the network."""

    kind: Kind = "clip"
    source: str = ""
    """Hub id, or the name of the folder, as it was given."""
    path: str = ""
    """The folder, where the encoder is none of the hub's and is not embedded."""
    revision: str = ""
    """Commit of the hub."""
    fingerprint: str = ""
    """Of weights and vocabulary (`glide.checkpoints.text_encoders`)."""
    encoder_width: Annotated[int, Range(0, 65536)] = 0
    """Width of the encoder's outputs; 0 until it was read."""
    width: Annotated[int, Range(0, 65536)] = 0
    """Width of the tokens that attention receives; 0: the encoder's."""
    context: Annotated[int, Range(0, 65536)] = 0
    """Tokens of a caption, those of its beginning and end included; 0: what the encoder takes, at most 128."""
    pooled: Literal["auto", "end", "mean", "none"] = "auto"
    """The vector that is added to the time embedding. end: the output at the last token, of a CLIP. mean: of the
    caption's own tokens. none: the tokens reach the network by attention alone. auto: end for clip, mean for t5, none
    for bert."""
    embedded: bool = False
    """The model's folder holds the encoder (text_encoder/)."""

    def check(self) -> None:
        """InputError for settings that do not fit each other."""
        need(self.source, "got settings of a frozen text encoder without one, expected --text-encoder")
        need(
            self.pooled != "end" or self.kind == "clip",
            f"got text_encoder.pooled end for {self.kind}, expected mean or none, as only a CLIP is trained to end so",
        )


def read_name(name: str) -> tuple[Kind, str]:
    """Kind and place of an encoder: "clip:org/name", "t5:org/name@revision", "bert:folder", or a folder alone.

    InputError for a name that is none of these.
    """
    kind, colon, place = name.partition(":")
    if colon and kind in KINDS and place:
        if not Path(place).expanduser().is_dir() and not HUB_ID.fullmatch(place):
            raise InputError(
                f"got the text encoder {name!r}, expected clip:, t5: or bert: with a hub id (org/name) or a folder: "
                "check the name"
            )
        return kind, place
    config = Path(name).expanduser() / "config.json"
    if not config.is_file():
        raise InputError(
            f"got the text encoder {name!r}, expected clip:ORG/NAME, t5:ORG/NAME, bert:ORG/NAME or a folder with its "
            "config.json: check the name"
        )
    found = read_table(config).get("model_type")
    if found not in MODEL_TYPES:
        raise InputError(
            f"got the text encoder {name} of the model_type {shown_number(found)}, expected one of "
            f"{', '.join(MODEL_TYPES)}: give another"
        )
    return MODEL_TYPES[str(found)], name


def is_folder(place: str) -> bool:
    """True for a place that is a folder here, and no hub id."""
    return Path(place).expanduser().is_dir()
