"""Low-resolution inputs for training an upsampler: reduced pictures, degraded, then enlarged to planes.

At sampling time the low-resolution picture is another model's, rounded to 8 bits. So in training a picture is reduced
and rounded in the same way. As a model's pictures differ from photographs, it is also degraded: noised at a level that
the network is conditioned on (cascaded diffusion, 2106.15282, section 4.2), blurred, or compressed.

Shape letters: H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from glide.utils.image_files import decode_picture
from upsampler.low_res_config import LowRes, Reduction

Pixels = NDArray[np.uint8]  # [h,w,3], colours last

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
"""Filters of Pillow, which widens them by the factor of reduction, so without aliasing."""

REDUCTIONS = ("area", *FILTERS)
"""Methods of reduction for any picture."""


def reduce_picture(pixels: Pixels, scale: int, method: Reduction) -> Pixels:
    """uint8 [H,W,3] -> uint8 [H/scale,W/scale,3], by one of REDUCTIONS, rounded."""
    height, width, _ = pixels.shape
    if method == "area":
        # Pillow's box filter would round twice, once per direction
        rows = pixels.reshape(height // scale, scale, width, 3).sum(1, dtype=np.uint32)
        total = rows.reshape(height // scale, width // scale, scale, 3).sum(2, dtype=np.uint32)
        return ((total + scale**2 // 2) // scale**2).astype(np.uint8)
    picture = Image.fromarray(pixels)
    return np.asarray(picture.resize((width // scale, height // scale), FILTERS[method]))


def degrade(pixels: Pixels, settings: LowRes, rng: np.random.Generator) -> tuple[Tensor, float]:
    """Degrade a low-resolution picture, uint8 [h,w,3]; returns the network's input [3,h,w] and its noise level.

    Always draws the same random numbers from `rng` before the noise itself, so that one setting does not change the
    effect of another.
    """
    kept, at, blur, radius, jpeg, quality = rng.random(6).tolist()
    low, high = settings.noise
    level = low + (high - low) * at
    if kept < settings.clean:
        level = 0.0
    else:
        if settings.blur and blur < 0.5:
            picture = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(settings.blur * radius))
            pixels = np.asarray(picture)
        if settings.jpeg and jpeg < 0.5:
            pixels = compress(pixels, round(settings.jpeg + (95 - settings.jpeg) * quality))
    low_res = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1) / 127.5 - 1  # [h,w,3] -> [3,h,w]
    if level:
        noise = torch.from_numpy(rng.standard_normal(low_res.shape, np.float32))
        low_res = add_noise(low_res, level, noise)
    return low_res.contiguous(), level


def compress(pixels: Pixels, quality: int) -> Pixels:
    """A picture, uint8 [h,w,3], after JPEG compression of that quality, 1 to 95."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(decode_picture(file.getvalue(), "the compressed picture")[0])


def add_noise(low_res: Tensor, level: float, noise: Tensor) -> Tensor:
    """sqrt(1 - level^2) low_res + level noise: q(z_s | z_0) of 2106.15282, the level in place of the time s."""
    return math.sqrt(1.0 - level**2) * low_res + level * noise


def enlarged_crop(low_res: Tensor, scale: int, top: int, left: int, size: int) -> Tensor:
    """The crop [3,size,size] of the enlarged planes, equal to a crop after enlarging the whole picture.

    low_res [3,h,w]; top, left: the crop's corner in pixels of the low-resolution picture; size: of the crop in pixels
    of the picture, a multiple of `scale`.
    """
    # an enlarged pixel mixes its low-resolution pixel with the neighbours; outside of the picture there are none
    framed = F.pad(low_res[None], (1, 1, 1, 1), mode="replicate")
    side = size // scale
    part = framed[..., top : top + side + 2, left : left + side + 2]  # [1,3,side+2,side+2]
    large = F.interpolate(part, scale_factor=scale, mode="bilinear", align_corners=False)
    return large[0, :, scale:-scale, scale:-scale].contiguous()
