"""Each picture by itself.

How a sum is rounded depends on how many rows are summed at once, and a picture shall not depend on those beside it.

Shape letters: N pictures.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def per_image(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function` of the rows of the tensors [N,...], one picture at a time, stacked again: [N,...]."""
    return torch.stack([function(*rows) for rows in zip(*tensors, strict=True)])
