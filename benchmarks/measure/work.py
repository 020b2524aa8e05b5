"""Number of floating-point operations: a multiplication and an addition count as two.

Counts convolutions, matrix products and attention. Norms, activations and sums are left out: they are a
small part of the arithmetic (not of the time), and peaks are measured without them.

Shape letters: N batch, C channels, L queries, M keys.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glide.networks.config import ModelConfig
from glide.networks.cpu import fused
from glide.networks.key_cache import with_keys
from glide.networks.model import Model


def conv_work(conv: nn.Conv2d, output: Tensor) -> int:
    """Operations of the convolution that gave `output`; its padded border counts too, as libraries compute it."""
    height, width = conv.kernel_size
    return 2 * height * width * (conv.in_channels // conv.groups) * output.numel()


def linear_work(linear: nn.Linear, output: Tensor) -> int:
    return 2 * linear.in_features * output.numel()


def attention_work(n: int, channels: int, queries: int, keys: int) -> int:
    """Operations of q k^T and of the weighted sum, all heads together [N,C]."""
    return 4 * n * channels * queries * keys


def _forward(query: Any, key: Any, value: Any, *rest: Any, **options: Any) -> int:
    """Operations of a fused attention, from the shapes [N,heads,L,d], [N,heads,M,d]."""
    n, heads, queries, d = query
    return attention_work(n, heads * d, queries, key[2])


def _backward(grad: Any, query: Any, key: Any, *rest: Any, **options: Any) -> int:
    """Five matrix products: q k^T once more, and the gradients of its softmax, of q, of k and of v."""
    return 5 * _forward(query, key, None) // 2


def _uncounted() -> dict[Any, Callable[..., int]]:
    """Fused attention that PyTorch's counter does not know: as of 2.13 that of CPUs counts there as nothing."""
    names = {
        "_scaled_dot_product_flash_attention_for_cpu": _forward,
        "_scaled_dot_product_flash_attention_for_cpu_backward": _backward,
        "_scaled_dot_product_fused_attention_overrideable": _forward,
        "_scaled_dot_product_fused_attention_overrideable_backward": _backward,
    }
    aten = torch.ops.aten
    return {getattr(aten, name): formula for name, formula in names.items() if hasattr(aten, name)}


def counted(f: Callable[[], object]) -> int:
    """The operations of f, counted while it runs: by PyTorch's kernels alone, as the counter sees no C."""
    counter = FlopCounterMode(display=False, custom_mapping=_uncounted())
    with patch.object(fused, "library", lambda: None), counter:
        f()
    return counter.get_total_flops()


def call_work(config: ModelConfig, rows: int) -> int:
    """The work of one call of a model's U-Net for N = rows, pictures of its own size.

    Captions, with their keys and values, are not in it: they are encoded once a picture. It is counted on a network
    without weights, so it is the same whatever the network is run by.
    """
    with torch.device("meta"), torch.no_grad():
        model = Model(config).eval()
        size, low = config.unet.image_size, config.low_res_size
        batch: dict[str, Tensor] = {}
        if config.text is not None:
            batch["tokens"] = torch.zeros(rows, config.text.context, dtype=torch.int64)
            batch["mask"] = torch.ones(rows, config.text.context, dtype=torch.bool)
        if config.num_classes:
            batch["y"] = torch.zeros(rows, dtype=torch.int64)
        if config.low_res:
            batch["low_res"] = torch.zeros(rows, 3, low, low)
        if config.inpaint:
            batch["inpaint_image"] = torch.zeros(rows, 3, size, size)
            batch["inpaint_mask"] = torch.zeros(rows, 1, size, size)
        cond = with_keys(model.unet, model.condition(batch))
        x = torch.zeros(rows, config.unet.in_channels, size, size)
        t = torch.zeros(rows, dtype=torch.int64)
        return counted(lambda: model.unet(x, t, cond))
