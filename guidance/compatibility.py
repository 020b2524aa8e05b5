"""Check that a network that guides fits the diffusion model."""

from __future__ import annotations

import numpy as np

from glide.networks.config import ModelConfig, ProcessConfig
from glide.utils.errors import InputError


def check_fits(kind: str, size: int, channels: int, process: ProcessConfig, model: ModelConfig) -> None:
    """InputError unless a guide takes the model's pictures x_t, at the model's noise.

    kind: what messages call the guide ("classifier", "CLIP"). size, channels: of its pictures. process: of the noise
    that it was trained at.
    """
    theirs = model.unet
    if size != theirs.image_size:
        raise InputError(
            f"got a {kind} of {size}x{size} pixels for a model of {theirs.image_size}x{theirs.image_size}, expected "
            f"the same: give the {kind} of that size"
        )
    if channels != theirs.in_channels:
        raise InputError(
            f"got a {kind} of {channels} channels for a model of {theirs.in_channels}, expected the same: give "
            f"another {kind}"
        )
    if not same_noise(process, model.process):
        raise InputError(
            f"got a {kind} trained at the noise of {_words(process)}, expected the model's, "
            f"{_words(model.process)}: train one with --like and the model"
        )


def same_noise(ours: ProcessConfig, theirs: ProcessConfig) -> bool:
    """Compare alpha_bar at each timestep, as two different settings can mean one process."""
    a, b = ours.build().alpha_bar, theirs.build().alpha_bar
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-9)


def _words(process: ProcessConfig) -> str:
    zero = ", zero terminal SNR" if process.zero_terminal_snr else ""
    return f"{process.schedule}, {process.steps} steps, shift {process.shift:g}{zero}"
