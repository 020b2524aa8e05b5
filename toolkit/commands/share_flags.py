"""Share a trained model: its files, without checkpoints and local paths, and a model card, on the hub or as a zip.

examples:
    python scripts/share.py runs/auto --to NAME/MODEL --licence cc-by-4.0 --prompt "a red apple"
    python scripts/share.py runs/photos --zip photos.zip --licence mit --prompt "a red apple" --prompt "two apples"
    python scripts/share.py runs/photos --zip photos.zip --upsampler emoji --samples 0

Others take it as --model NAME/MODEL, or --model photos.zip. Its card has the samples that --prompt asks for, the data,
the command and the time of the training, and the figures that were measured. Read it before you pass the model on:
docs/sharing.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID
from glide.utils.numbers import Range
from glide.utils.ranges import check_numbers
from toolkit.commands import shared_flags as shared


@dataclass(frozen=True)
class Share:
    """The flags. Give --to or --zip."""

    run: Annotated[Positional[str], arg(metavar="RUN")]
    """The folder of a training, or of a model of any kind."""
    to: Annotated[str | None, arg(metavar="ORG/NAME")] = None
    """Push it to this repository of the Hugging Face hub, which is made if it is missing (extra `hub`, and `hf auth
    login`)."""
    zip: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write it as a zip, which --model of every command takes."""
    licence: Annotated[str | None, arg(metavar="NAME")] = None
    """Licence of the model, such as mit, cc-by-4.0 or openrail. Without it the card says that it is unknown."""
    about: Annotated[str, arg(metavar="TEXT")] = ""
    """Your own words on what it draws and what its data are, for the card."""
    prompt: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="TEXT")] = ()
    """Caption of a sample on the card; repeat the flag for several."""
    samples: Annotated[int, Range(0, 64)] = 8
    """Samples on the card: of the captions in turn, of the first classes, or of different noise."""
    scale: shared.Scale = None
    steps: shared.Steps = None
    seed: int = 0
    """Sample i has the seed SEED + i."""
    upsampler: Annotated[str | None, arg(metavar="NAME")] = None
    """Upsampler to put beside it. By default the one in the model's folder, if any; none leaves it out."""
    clip: Annotated[str | None, arg(metavar="NAME")] = None
    """Noisy CLIP to put beside it, for --guidance clip."""
    classifier: Annotated[str | None, arg(metavar="NAME")] = None
    """Noisy classifier to put beside it, for --guidance classifier."""
    weak: Annotated[str | None, arg(metavar="NAME")] = None
    """Weaker model to put beside it, for --guidance auto."""
    figures: Annotated[Path | None, arg(metavar="FILE")] = None
    """Figures for the card: evaluation.json of evaluate_images.py, or report.json of train_auto.py. By default those of
    the run."""
    private: bool = False
    """(to) Make a new repository that only you see."""
    overwrite: bool = False
    """Replace a zip, or the files of a repository, whose older commits stay."""
    device: shared.Device = "auto"
    dtype: DType = AUTO

    def check(self) -> None:
        """InputError for flags out of their range, or that exclude each other."""
        check_numbers(self)
        if (self.to is None) == (self.zip is None):
            got = "neither --to nor --zip" if self.to is None else "--to and --zip"
            raise InputError(f"got {got}, expected one of them: write --to ORG/NAME or --zip FILE.zip")
        if self.to is not None and ("@" in self.to or not HUB_ID.fullmatch(self.to)):
            raise InputError(f"got --to {self.to}, expected a name of the hub: write ORG/NAME")
        if self.private and self.to is None:
            raise InputError("got --private with --zip, expected a repository: leave it out, or give --to")
