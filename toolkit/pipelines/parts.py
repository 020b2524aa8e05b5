"""What an upsampler's pipeline needs of this package, in one object: `toolkit.pipelines.upscale` takes it, and neither
package imports the other.

    from toolkit.pipelines.upscale import Upscaler
    from toolkit.pipelines.parts import UPSAMPLING

    stage = Upscaler.load("shapes", UPSAMPLING)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from glide.diffusion.denoiser import Network
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from upsampler.cascade import Draw, enlarge
from upsampler.presets import EMBEDDED, check_upsampler
from upsampler.tiling import in_tiles


@dataclass(frozen=True)
class Parts:
    """How pictures are fitted, noised and cut into tiles, and where the embedded upsamplers are."""

    enlarge: Callable[[Draw, ModelConfig, Tensor, int, float], Iterator[Tensor]] = enlarge
    tiles: Callable[[Network, Model], Network] = in_tiles
    check: Callable[[ModelConfig, str], None] = check_upsampler
    places: tuple[Path, ...] = (EMBEDDED,)


UPSAMPLING = Parts()
