"""Fill what is unknown of a picture with what lies around it.

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def filled_in(image: Tensor, known: Tensor) -> Tensor:
    """[N,C,H,W] with its unknown pixels filled by averages of known ones, the nearest that there are.

    Push-pull: each scale fills what the finer one leaves open (Gortler et al., The Lumigraph, 1996, section 3.4).
    """
    size = image.shape[-2:]
    if max(size) == 1 or bool(known.all()):
        return image * known
    weight = F.avg_pool2d(known, 2, ceil_mode=True)
    coarse = F.avg_pool2d(image * known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    filled = filled_in(coarse, (weight > 0).float())
    open_ = F.interpolate(filled, size, mode="bilinear", align_corners=False)
    return image * known + open_ * (1 - known)
