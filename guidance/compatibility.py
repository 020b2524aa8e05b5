"""Check that a network that guides fits the diffusion model."""

from __future__ import annotations

import numpy as np

from glide.networks.config import FirstStageConfig, ModelConfig, ProcessConfig
from glide.utils.errors import InputError


def check_fits(
    kind: str,
    size: int,
    channels: int,
    process: ProcessConfig,
    model: ModelConfig,
    first_stage: FirstStageConfig | None = None,
) -> None:
    """InputError unless a guide takes the model's pictures or latents x_t, at the model's noise.

    kind: what messages call the guide ("classifier", "CLIP"). size, channels: of its pictures or latents. process: of
    the noise that it was trained at. first_stage: the autoencoder of its latents.
    """
    check_first_stages(kind, first_stage, model.first_stage)
    theirs = model.unet
    if size != theirs.image_size:
        raise InputError(
            f"got a {kind} of {size}x{size} {'latents' if first_stage else 'pixels'} for a model of "
            f"{theirs.image_size}x{theirs.image_size}, expected the same: give the {kind} of that size"
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


def check_drawn_size(kind: str, side: int, drawn: tuple[int, int] | None) -> None:
    """InputError where pictures or latents of (h, w) are drawn that a guide of side x side does not take.

    kind: as of `check_fits`. drawn: None is what the model's configuration says.
    """
    if drawn is not None and drawn != (side, side):
        raise InputError(
            f"got a {kind} of {side}x{side} for pictures or latents of {drawn[1]}x{drawn[0]}, expected the same, as "
            f"a {kind} takes one size alone: leave --size out, or the guidance"
        )


def check_first_stages(kind: str, ours: FirstStageConfig | None, theirs: FirstStageConfig | None) -> None:
    """InputError unless a guide and a model both take pixels, or latents of the same autoencoder.

    ours: the guide's. theirs: the model's.
    """
    if ours is None and theirs is not None:
        raise InputError(
            f"got a {kind} of pixels for a model that draws latents, expected one of the same latents: train one with "
            "the model's autoencoder"
        )
    if ours is not None and theirs is None:
        raise InputError(
            f"got a {kind} of latents for a model that draws pixels, expected one of pixels: give another {kind}"
        )
    if ours is not None and theirs is not None and ours.fingerprint != theirs.fingerprint:
        raise InputError(
            f"got a {kind} of the latents of another autoencoder ({ours.fingerprint}) than the model's "
            f"({theirs.fingerprint}), expected the same: train one with the model's autoencoder"
        )


def same_noise(ours: ProcessConfig, theirs: ProcessConfig) -> bool:
    """Compare alpha_bar at each timestep, as two different settings can mean one process."""
    a, b = ours.build().alpha_bar, theirs.build().alpha_bar
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=1e-9)


def _words(process: ProcessConfig) -> str:
    zero = ", zero terminal SNR" if process.zero_terminal_snr else ""
    return f"{process.schedule}, {process.steps} steps, shift {process.shift:g}{zero}"
