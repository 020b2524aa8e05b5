"""Gradient checkpointing (1604.06174): activations of a block are computed again for its gradient, not kept."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from glide.networks.cpu import dispatch


def checkpointed(block: nn.Module, *inputs: Tensor | bool | None, enabled: bool) -> Tensor:
    """block(*inputs); enabled: where gradients are taken, its activations are computed again instead of kept."""
    if not enabled or not torch.is_grad_enabled():
        return block(*inputs)
    if dispatch.second_derivatives():
        # The backward pass runs outside of the caller's context, and must compute the same activations.
        return checkpoint(block, *inputs, use_reentrant=False, context_fn=_recompute_contexts)
    return checkpoint(block, *inputs, use_reentrant=False)


def _recompute_contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the forward pass and of the second computation."""
    return nullcontext(), _MathAttention()


class _MathAttention(AbstractContextManager[None]):
    """Second derivatives are possible within; it may be entered several times, once for each derivative."""

    def __enter__(self) -> None:
        self._context = sdpa_kernel(SDPBackend.MATH)
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
