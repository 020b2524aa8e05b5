"""Training losses and their weightings.

Shape letters: N batch, C channels, H W pixels, T training timesteps. Losses are per example, [N], in float32.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from glide.diffusion.denoiser import (
    check_space,
    log_variance,
    split_variance,
    to_x0,
)
from glide.diffusion.loss_config import GROUP, KINDS, LossConfig
from glide.diffusion.process import Array, Process, gather
from glide.diffusion.variational_bound import bound_term_bits, mean_flat
from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError


def loss_weights(process: Process, config: LossConfig) -> Array:
    """Weight of the loss at each training timestep, float64 [T].

    Errors in the three spaces differ by factors of the timestep alone: |e_eps|^2 = SNR |e_x0|^2 and |e_v|^2 =
    (SNR + 1) |e_x0|^2. So a weighting is given once, as w(SNR) of the squared error in x0, and divided by the
    factor of the space the network predicts in:

    none     1 in the predicted space                    eps, x0, v   1 in that space: w = SNR, 1, SNR + 1
    min_snr  w = min(SNR, gamma) (2303.09556)            p2   w = SNR / (k + SNR)^p2_gamma (2204.00227)

    `v` with prediction x0 trains x0 as if v were predicted; `max_weight` then keeps nearly clean images from
    dominating the others. The same weight multiplies an l1 or huber loss. Raises InputError where the prediction
    does not fit the process.
    """
    check_space(process, config.prediction)
    snr = process.snr
    if config.weighting == "none":
        weight = np.ones_like(snr)
    else:
        of_x0_error = {
            "eps": snr,
            "x0": np.ones_like(snr),
            "v": snr + 1.0,
            "min_snr": np.minimum(snr, config.gamma),
            "p2": snr / (config.p2_k + snr) ** config.p2_gamma,
        }[config.weighting]
        weight = of_x0_error / {"eps": snr, "x0": np.ones_like(snr), "v": snr + 1.0}[config.prediction]
    return weight if config.max_weight is None else np.minimum(weight, config.max_weight)


def loss_terms(
    process: Process, config: LossConfig, output: Tensor, x0: Tensor, x_t: Tensor, t: Tensor, noise: Tensor
) -> dict[str, Tensor]:
    """Per-example losses [N] of a network's output at x_t = q_sample(x0, t, noise).

    process: the training process; output [N,C or 2C,H,W] of the network; x0 [N,C,H,W] in [-1, 1]; t
    LongTensor [N]. "loss": the value to minimise. "mse": mean squared error in the predicted space, unweighted.
    "vb", if the network learns a variance or the loss is the bound: this timestep's term of the
    bound, bits per dimension (all T terms and the prior add up to the bound); its mean is detached in the
    hybrid loss, so that L_vlb trains the variance only (2102.09672, section 3.1). Raises InputError where the
    prediction does not fit the process.
    """
    x0, x_t, noise, output = x0.float(), x_t.float(), noise.float(), output.float()
    alpha, sigma = gather(np.sqrt(process.alpha_bar), t, x0), gather(np.sqrt(1.0 - process.alpha_bar), t, x0)
    mean, v = split_variance(output, x0.shape[1])
    target = noise if config.prediction == "eps" else x0
    if config.prediction == "v":
        target = alpha * noise - sigma * x0
    error = mean_flat(_per_pixel(config, mean, target))
    loss = gather(loss_weights(process, config), t, error) * error
    terms = {"mse": error if config.kind == "l2" else mean_flat((mean - target) ** 2)}
    if config.full_vlb or v is not None:
        detached = mean if config.full_vlb else mean.detach()
        log_var = log_variance(process, t, v, "fixed_small" if v is None else "learned", x0)
        terms["vb"] = bound_term_bits(
            process, x0, x_t, t, to_x0(config.prediction, detached, x_t, alpha, sigma), log_var
        )
        vlb = len(process) * terms["vb"]  # t is one of T: an estimate of the whole sum
        loss = vlb if config.full_vlb else loss + config.vlb_weight * vlb
    return {"loss": loss, **terms}


def _per_pixel(config: LossConfig, mean: Tensor, target: Tensor) -> Tensor:
    if config.kind == "l2":
        return F.mse_loss(mean, target, reduction="none")
    if config.kind == "l1":
        return (mean - target).abs()
    if config.kind == "huber":
        return F.huber_loss(mean, target, reduction="none", delta=config.huber_delta)
    error: Tensor = loss_plug_in(config.kind)(mean, target)
    if error.shape != target.shape:
        raise InputError(
            f"got errors of shape {list(error.shape)} from the loss {config.kind!r}, expected {list(target.shape)}, "
            "one for each pixel: correct it"
        )
    return error


@cache
def loss_plug_in(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function of another package's loss. InputError where it cannot be imported."""
    found: Callable[[Tensor, Tensor], Tensor] = load_plug_in(plug_ins(GROUP)[kind], "loss")
    return found


def check_loss(config: LossConfig) -> None:
    """InputError for another package's loss that cannot be imported."""
    if config.kind not in KINDS:
        loss_plug_in(config.kind)
