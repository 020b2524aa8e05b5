"""What single guidances need to know besides their scale and interval.

Imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any

from tyro.conf import arg

from glide.utils.errors import InputError
from glide.utils.numbers import real, shown_number
from glide.utils.ranges import check_numbers, flag

NUMBERS = ("rescale", "threshold", "apg_eta", "apg_norm", "apg_momentum", "cads_mix")


@dataclass(frozen=True)
class Options:
    """Each belongs to the guidance in brackets."""

    negative: Annotated[str | None, arg(metavar="TEXT")] = None
    """(cfg, apg) A caption to be led away from, in place of none; for class-conditional models a class."""
    rescale: Annotated[float, arg(metavar="SHARE")] = 0.0
    """How much of the contrast that guidance adds is taken back, 0 to 1 (0.7 is usual): against oversaturation."""
    threshold: Annotated[float | None, arg(metavar="SHARE")] = None
    """Dynamic thresholding: the share of pixels (0.995 is usual) whose values the picture keeps within bounds, all
    others being scaled with them. By default values out of bounds are cut off."""
    weak: Annotated[str | None, arg(metavar="NAME")] = None
    """(auto) The weaker model to be led away from: an earlier or smaller one, named as --model."""
    classifier: Annotated[str, arg(metavar="NAME")] = "shapes-shape"
    """(classifier) A noisy classifier: a folder, an embedded one, a published .pt file, or a hub id."""
    clip: Annotated[str, arg(metavar="NAME")] = "shapes-clip"
    """(clip) A noisy CLIP, or a clean one of transformers: a folder, an embedded one, published .pt, or a hub id."""
    clip_sees: Annotated[str, arg(metavar="{xt,x0}")] = "xt"
    """(clip) What a noisy CLIP looks at: xt, the noisy picture, or x0, the one that the model predicts behind it, as a
    clean CLIP always does: surer, but at each step a network call and its gradient more."""
    clip_vocab: Annotated[str | None, arg(metavar="NAME")] = None
    """(clip) For the published .pt pair: folder or hub id of CLIP's vocabulary. By default fetched from the hub."""
    pag_layers: Annotated[str, arg(metavar="NAME,NAME")] = "middle"
    """(pag) The attention layers to perturb; a wrong name lists those that there are."""
    apg_eta: Annotated[float, arg(metavar="SHARE")] = 0.0
    """(apg) How much is kept of the part along the picture itself, which saturates: 0 to 1, where 1 is as cfg."""
    apg_norm: Annotated[float | None, arg(metavar="NORM")] = None
    """(apg) Largest norm of the difference that is scaled up. By default none."""
    apg_momentum: Annotated[float, arg(metavar="NUMBER")] = 0.0
    """(apg) Of the running average of that difference, -1 to 1; below 0 it stresses what is new, which solvers that
    look back magnify: for ddim and the like."""
    cads_mix: Annotated[float, arg(metavar="SHARE")] = 1.0
    """(cads) How much the noised condition is brought back to its mean and deviation, 0 to 1."""

    def __post_init__(self) -> None:
        """Numbers of numpy as Python's own, as recipes need them. InputError for another type."""
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None or value == f.default:
                continue
            if f.name in NUMBERS:
                object.__setattr__(self, f.name, real(value, flag(f.name)))
            elif f.name != "negative" and not isinstance(value, str):  # a negative class may be a number
                raise InputError(f"got {flag(f.name)} {shown_number(value)}, expected a text: give its name")

    def check(self) -> None:
        """InputError for an option out of its range."""
        check_numbers(self)
        if self.clip_sees not in ("xt", "x0"):
            raise InputError(f"got --clip-sees {self.clip_sees!r}, expected xt or x0: choose one of these")

    def given(self) -> dict[str, Any]:
        """Those that are not as by default."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def of(self, names: frozenset[str]) -> Options:
        """The same with all but these as by default."""
        return Options(**{name: value for name, value in asdict(self).items() if name in names})


DEFAULT_OPTIONS = Options()
