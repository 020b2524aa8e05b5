"""Steps and pictures that a pipeline gives back.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from glide.utils.errors import InputError
from glide.utils.images import Pixels, as_image, grid, to_uint8
from glide.utils.printable import printable

OUTPUT_TYPES = ("pil", "np", "pt")
SHOWN = 64  # pictures in a notebook, at most


def _as_it_is(x: Tensor) -> Tensor:
    return x


@dataclass(frozen=True)
class Step:
    """The state of a run after one step of the sampler."""

    index: int  # from 0
    t: int  # the training timestep that was denoised
    latents: Tensor  # [N,c,h,w] float32, on the model's device: x_t in the model's own space
    x0_latents: Tensor  # [N,c,h,w] what the model took x_0 to be
    decode: Callable[[Tensor], Tensor] = _as_it_is
    """From the model's space to pictures [N,C,H,W]; of a model that draws pixels they are the same tensors."""

    @cached_property
    def x(self) -> Tensor:
        """x_t as pictures, [N,C,H,W] float32, nominally in [-1, 1] in the last step."""
        return self.decode(self.latents)

    @cached_property
    def x0(self) -> Tensor:
        """The pictures as the model took them to be, [N,C,H,W], nominally in [-1, 1]."""
        return self.decode(self.x0_latents)


@dataclass(frozen=True, eq=False)
class Result:
    """N pictures. In a notebook it shows them."""

    images: Any
    """As `output_type` asks: a list of N PIL pictures; float32 from 0 to 1 as an array [N,H,W,C] or as a tensor
    [N,C,H,W]; or latents [N,c,h,w] as the model drew them."""
    tensors: Tensor  # [N,C,H,W] float32 on the CPU, nominally from -1 to 1
    recipes: list[dict[str, Any]]  # what each needs to be drawn again; `recipe["seed"]` is its seed

    def to_tuple(self) -> tuple[Any]:
        """The result of a call with `return_dict=False`."""
        return (self.images,)

    def __getitem__(self, key: int | str) -> Any:
        """`result["images"]` and `result[0]`, as outputs of diffusers have them."""
        return getattr(self, key) if isinstance(key, str) else self.to_tuple()[key]

    def __repr__(self) -> str:
        count, _, height, width = self.tensors.shape
        seeds = [str(recipe["seed"]) for recipe in self.recipes[:4]] + (["..."] if count > 4 else [])
        pictures, of = "picture" + "s" * (count != 1), "seed" + "s" * (count != 1)
        return f"Result({count} {pictures} of {width}x{height}, {of} {', '.join(seeds)})"

    def _repr_png_(self) -> bytes:
        return _png(grid(to_uint8(self.tensors[:SHOWN])))

    def _repr_html_(self) -> str:
        figures = []
        for pixels, recipe in zip(to_uint8(self.tensors[:SHOWN]), self.recipes, strict=False):
            source = base64.b64encode(_png(pixels)).decode()
            said = printable(recipe.get("prompt") or recipe.get("class") or "", 100)
            figures.append(
                '<figure style="display: inline-block; margin: 4px; max-width: 160px; vertical-align: top">'
                f'<img src="data:image/png;base64,{source}" style="min-width: 128px; image-rendering: pixelated">'
                f'<figcaption style="font-size: small">{html.escape(said)} (seed {recipe["seed"]})</figcaption>'
                "</figure>"
            )
        return "".join(figures)


def check_output_type(name: object, latents: bool = False) -> None:
    """InputError for a form of pictures that there is not. latents: True where there are latents to give."""
    if name == "latent":
        if latents:
            return
        raise InputError(
            "got the output_type 'latent' for a model that draws pixels, or with a mask, where there are no latents, "
            "expected pil, np or pt: the pixels before they are rounded are in `result.tensors`"
        )
    if name not in OUTPUT_TYPES:
        raise InputError(f"got the output_type {name!r}, expected {' or '.join(OUTPUT_TYPES)}: choose one")


def as_output(x: Tensor, output_type: str) -> Any:
    """Pictures x [N,C,H,W], nominally from -1 to 1, as `Result.images` has them."""
    if output_type == "pil":
        return [as_image(pixels) for pixels in to_uint8(x)]
    unit = ((x.float().cpu() + 1) / 2).clamp(0, 1).contiguous()
    return unit if output_type == "pt" else np.ascontiguousarray(unit.permute(0, 2, 3, 1).numpy())


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    as_image(pixels).save(file, format="PNG")
    return file.getvalue()
