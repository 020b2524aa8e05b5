"""Pictures that a model is conditioned on besides words: one class a kind, found by name.

    condition = condition_named("map:9")         # a semantic map of 9 classes
    condition = condition_named("image:1")       # one channel: edges, depth, grey

A kind turns a picture file into bytes that are cropped and flipped with the picture that is learned, and these into
input planes. Another package adds its own by an entry point of the group GROUP, which leads to such a class.

Shape letters: N pictures, c stored channels, P planes, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glide.utils.channels import in_mode
from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError
from glide.utils.image_files import as_shown
from glide.utils.images import to_float
from glide.utils.numbers import read_whole
from glide.utils.picture_size import Size
from glide.utils.resize import crop_box, cropped_picture

GROUP = "glide.conditions"
"""Entry points of other packages: classes of `PictureCondition`, named as the kind."""

UNLABELLED = 255
"""Pixels of a map that belong to no class, as in Cityscapes and ADE20K."""
MAX_CLASSES = 255


class PictureCondition(ABC):
    """One kind of picture that a model is conditioned on. The planes of a condition that is left out are zeros.

    The argument is what follows the kind's name: "9" in "map:9", "" in "map". InputError for one that does not fit.
    """

    name: ClassVar[str]
    stored: int
    """c: channels as bytes."""
    planes: int
    """P: input planes of the network."""
    nearest: ClassVar[bool] = False
    """True where pixels cannot be averaged, as those of a map; files are then taken as they are, not as they look."""
    from_picture: ClassVar[bool] = True
    """True where a picture's condition can be made from the picture itself."""

    def __init__(self, argument: str = "") -> None:
        if argument:
            raise InputError(f"got the condition {self.name}:{argument}, expected {self.name} alone")

    @abstractmethod
    def read(self, picture: Image.Image) -> NDArray[np.uint8]:
        """The condition in a picture, cropped and of the model's size: [H,W,c].

        picture: RGB or RGBA; as its file has it where `nearest` is true. InputError for one that does not fit.
        """

    @abstractmethod
    def to_planes(self, stored: Tensor) -> Tensor:
        """Bytes [N,c,H,W] as planes [N,P,H,W], float32; not all zeros anywhere, so that they differ from none."""

    def shown(self, stored: Tensor) -> Tensor:
        """Bytes [N,c,H,W] as pictures [N,3,H,W], uint8, for progress pictures."""
        rgb = stored[:, :3] if self.stored >= 3 else stored[:, :1].expand(-1, 3, -1, -1)
        return rgb.contiguous()

    @property
    def key(self) -> str:
        """Its name in batches and inputs."""
        return f"condition.{self.name}"


class SemanticMap(PictureCondition):
    """A map of K classes, one plane each ("map:K"): pixels are class numbers from 0, as greys or palette entries.

    255 is no class: such pixels are zeros in all planes but the last, which is 1 wherever there is a map.
    """

    name = "map"
    nearest = True
    from_picture = False

    def __init__(self, argument: str = "") -> None:
        if not argument:
            raise InputError(
                "got the condition map, expected the number of its classes, too: write for example map:9"
            )
        self.classes = read_whole(argument, "the classes of the condition map", 1, MAX_CLASSES)
        self.stored, self.planes = 1, self.classes + 1

    def read(self, picture: Image.Image) -> NDArray[np.uint8]:
        if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
            raise InputError("is a map with an alpha channel, expected class numbers alone: save it without")
        if picture.mode not in ("L", "P", "1"):
            raise InputError(
                f"is a map of colours (mode {picture.mode}), expected class numbers as greys or palette entries: "
                "convert it"
            )
        numbers = np.array(picture.convert("L") if picture.mode == "1" else picture, np.uint8)
        if picture.mode == "1":
            numbers //= 255
        unknown = (numbers >= self.classes) & (numbers != UNLABELLED)
        if unknown.any():
            raise InputError(
                f"is a map with the class {int(numbers[unknown].max())}, expected 0 to {self.classes - 1}, or "
                f"{UNLABELLED} for none: correct it, or raise the number of classes"
            )
        return numbers[..., None]

    def to_planes(self, stored: Tensor) -> Tensor:
        hot = F.one_hot(stored[:, 0].long().clamp(max=self.classes), self.classes + 1)  # [N,H,W,K+1]
        hot[..., self.classes] = 1
        return hot.permute(0, 3, 1, 2).float()

    def shown(self, stored: Tensor) -> Tensor:
        return torch.from_numpy(palette())[stored[:, 0].long().cpu()].permute(0, 3, 1, 2).contiguous()


class GivenImage(PictureCondition):
    """A picture of C channels ("image:C", by default 3): edges, depth or grey; a damaged picture.

    Planes: its channels in [-1, 1], and one of ones, by which a grey picture differs from none.
    """

    name = "image"

    def __init__(self, argument: str = "") -> None:
        self.stored = read_whole(argument, "the channels of the condition image", 1, 4) if argument else 3
        self.planes = self.stored + 1

    def read(self, picture: Image.Image) -> NDArray[np.uint8]:
        if self.stored == 2:  # grey and its transparency
            return np.asarray(picture.convert("RGBA").convert("LA"), np.uint8)
        pixels = np.asarray(in_mode(picture, self.stored), np.uint8)
        return pixels.reshape(*pixels.shape[:2], self.stored)

    def to_planes(self, stored: Tensor) -> Tensor:
        pixels = to_float(stored)  # [N,c,H,W]
        return torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)


KINDS: dict[str, type[PictureCondition]] = {kind.name: kind for kind in (SemanticMap, GivenImage)}


def kind_names() -> list[str]:
    """All kinds: the built-in ones, which no package can take, then those of other packages."""
    return [*KINDS, *(name for name in plug_ins(GROUP) if name not in KINDS)]


@cache
def condition_named(spec: str) -> PictureCondition:
    """The condition of a spec, "KIND" or "KIND:ARGUMENT". InputError for an unknown kind or an unfit argument."""
    name, _, argument = spec.partition(":")
    if name in KINDS:
        return KINDS[name](argument)
    entry = plug_ins(GROUP).get(name)
    if entry is None:
        raise InputError(
            f"got the condition {spec!r}, expected {' or '.join(kind_names())}: choose one of these, or install the "
            "package that adds it"
        )
    kind = load_plug_in(entry, "condition")
    if not (isinstance(kind, type) and issubclass(kind, PictureCondition)):
        raise InputError(
            f"the condition {name!r} of {entry.value} is no class of PictureCondition, expected one: correct it"
        )
    kind.name = name
    return kind(argument)


def conditions_named(specs: Sequence[str]) -> tuple[PictureCondition, ...]:
    """The conditions of a model's configuration, in the order of their planes."""
    return tuple(condition_named(spec) for spec in specs)


def cut_condition(
    picture: Image.Image,
    kind: PictureCondition,
    size: Size,
    x: float = 0.5,
    y: float = 0.5,
    share: float = 1.0,
) -> Image.Image:
    """The part of a condition's picture that `glide.utils.resize.cropped_picture` cuts of the learned one, of `size`.

    The pixels of a kind that cannot be averaged are taken, not mixed.
    """
    if not kind.nearest:
        return cropped_picture(as_shown(picture)[0], size, x, y, share)
    box = crop_box((picture.height, picture.width), size, x, y, share)
    return picture.resize((size[1], size[0]), Image.Resampling.NEAREST, box=box)


@cache
def palette() -> NDArray[np.uint8]:
    """Colours of the classes of a map, [256,3]: black first, then as different as bits allow, as in Pascal VOC."""
    number = np.arange(256)
    colors = np.zeros((256, 3), np.int64)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((number >> channel) & 1) << (7 - bit)
        number = number >> 3
    return colors.astype(np.uint8)
