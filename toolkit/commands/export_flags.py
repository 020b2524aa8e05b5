"""Export a model for another library: diffusers, which holds ADM's and DDPM's U-Nets without text around them.

examples:
    python scripts/export.py runs/flowers --to diffusers flowers-diffusers
    python scripts/export.py models/adm-256-uncond --to diffusers adm-diffusers

The folder is read by diffusers' DDPMPipeline and DDIMPipeline, and by --model of every command here. Of a model that
diffusers cannot hold, the part that stands in the way is named; docs/sharing.md has a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from glide.utils.errors import InputError
from toolkit.commands import shared_flags as shared


@dataclass(frozen=True)
class Export:
    """The flags."""

    model: Annotated[Positional[str], arg(metavar="MODEL")]
    """A model folder, a .zip of one, an embedded model, a published OpenAI .pt file, or a hub id (org/name)."""
    to: Annotated[tuple[str, str], arg(metavar="diffusers DIR")]
    """The library, and the folder to write. It holds no caption's vocabulary, no recipe and no name of a class."""
    vocab: shared.Vocab = None
    overwrite: bool = False
    """Replace a pipeline of diffusers that is there."""

    def check(self) -> None:
        """InputError for another library."""
        if self.to[0] != "diffusers":
            raise InputError(f"got --to {self.to[0]}, expected diffusers: write --to diffusers DIR")
