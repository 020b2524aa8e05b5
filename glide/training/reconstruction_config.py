"""Settings of an autoencoder's loss. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from glide.utils.ranges import check_numbers


@dataclass(frozen=True)
class ReconstructionConfig:
    """Weights of the terms of an autoencoder's loss, and what is done to its latents in training."""

    l1: float = 1.0
    """Mean absolute error of the pixels."""
    l2: float = 0.0
    """Mean squared error of the pixels, which PSNR measures: a run that ends with it gains some tenths of a dB."""
    gradients: float = 1.0
    """Mean absolute error of the differences between neighbours, at the picture's size, a half and a quarter."""
    kl: float = 1e-6
    """(--autoencoder.kl) Weight of the KL divergence from a unit Gaussian, of a mean latent (1312.6114)."""
    latent_noise: float = 0.0
    """Most noise that is added to latents, as a share of their deviation; each example gets from none to so much. A
    decoder that forgives noise forgives a diffusion model's small errors (2507.15856)."""
    equivariance: float = 0.0
    """Weight of the same losses for the latent at half its size, decoded, against the picture at half its size: such
    latents are smooth, and diffusion models learn them sooner (2502.14831)."""

    perceptual_weight: float = 1.0
    """(--perceptual) Weight of the perceptual loss."""

    def check(self) -> None:
        """InputError for numbers out of range."""
        check_numbers(self)
