"""Teaching a guide its gradient: not only whether a picture fits a caption, but which way to change it.

A guide that tells captions apart may still have a gradient that leads elsewhere: nothing in cross-entropy asks for it.
Denoising likelihood score matching (2203.14206, section 4) does: the gradient of log p(c | x_t) and the unconditional
score add up to the conditional score.

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from glide.checkpoints.load import load_model
from glide.diffusion.denoiser import split_variance, to_x0
from glide.diffusion.process import Process, gather
from glide.networks.cpu.prepacked import pack_
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_
from glide.training.config import TrainConfig
from glide.utils.errors import InputError

LEAST_ALPHA = 0.05  # sqrt(alpha_bar) below which the error in v counts no more: next to nothing is seen there


class Teacher:
    """A diffusion model that knows captions and none: what its two predictions differ by is what a guide should say."""

    def __init__(self, name: str, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        """name: as `glide.checkpoints.load.load_model`. dtype: what its U-Net runs in. InputError for a model that
        cannot tell."""
        self.model: Model = load_model(name, device)
        config = self.model.config
        if self.model.text is None or self.model.tokenizer is None or config.low_res:
            raise InputError(
                f"--like {name} with --gradient-weight: expected a base model that reads captions: give one, or leave "
                "--gradient-weight out"
            )
        self.model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        pack_(lower_(self.model.unet, dtype))

    @torch.no_grad()
    def shift(self, x_t: Tensor, t: Tensor, captions: Sequence[str]) -> Tensor:
        """x0 with the caption minus x0 without, [N,C,H,W] in float32; x_t [N,C,H,W], t [N] training timesteps."""
        model, process, n = self.model, self.model.process, len(x_t)
        inputs = model.caption_batch([*captions, *[""] * n]) | model.nothing_known(2 * n)
        x_t, t = x_t.repeat(2, 1, 1, 1), t.repeat(2)  # [2N,C,H,W], [2N]
        x_t = x_t.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x_t.device.type, enabled=False):  # its weights have their types already
            output, _ = split_variance(model(x_t, t, inputs).float(), x_t.shape[1])
        alpha, sigma = _alpha_sigma(process, t, output)
        with_caption, without = to_x0(model.config.process.prediction, output, x_t, alpha, sigma).chunk(2)
        return with_caption - without


def gradient_terms(
    log_prob: Tensor, x_t: Tensor, t: Tensor, process: Process, wanted: Tensor
) -> dict[str, Tensor]:
    """The error of a guide's gradient, [N] each: "gradient_error" and "cosine".

    log_prob [N], each of its own row of x_t [N,C,H,W] alone, which must require a gradient; t [N]; wanted [N,C,H,W]:
    the shift of x0. A gradient g shifts x0 by (1 - alpha_bar) / sqrt(alpha_bar) g. The error is the mean square of
    the difference between both shifts, in v (2202.00512: that in x0 over sqrt(1 - alpha_bar)), differentiable in the
    guide's weights. cosine: 1 where both point the same way.
    """
    with torch.autocast(x_t.device.type, enabled=False):
        (gradient,) = torch.autograd.grad(log_prob.sum(), x_t, create_graph=True)  # [N,C,H,W]
        alpha, sigma = _alpha_sigma(process, t, wanted)
        cut = alpha.clamp(min=LEAST_ALPHA)
        ours, theirs = (sigma / cut * gradient).flatten(1), (alpha / cut / sigma * wanted).flatten(1)
        error = F.mse_loss(ours, theirs, reduction="none").mean(dim=1)
        with torch.no_grad():
            cosine = F.cosine_similarity(ours, theirs, dim=1)
    return {"gradient_error": error, "cosine": cosine}


def check_learns_gradient(like: str | None, train: TrainConfig) -> None:
    """InputError for settings with which a guide's gradient cannot be learned."""
    if like is None:
        raise InputError(
            "got --gradient-weight without a model to learn from, expected one: give --like NAME."
        )
    refused = {
        "--compile": train.compile,
        "--shard": train.shard,
        "--dtype float16": train.dtype == "float16",
    }
    for flag, given in refused.items():
        if given:
            raise InputError(
                f"got {flag} with --gradient-weight, whose second derivatives it cannot give: leave one of them out."
            )


def twice_differentiable() -> AbstractContextManager[None]:
    """Within, attention has a second derivative: the fused kernels have none."""
    return sdpa_kernel(SDPBackend.MATH)


def _alpha_sigma(process: Process, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar) and sqrt(1 - alpha_bar) at t [N], float32 [N,1,1,1]."""
    return gather(np.sqrt(process.alpha_bar), t, like), gather(np.sqrt(1.0 - process.alpha_bar), t, like)
