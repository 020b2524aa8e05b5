"""The configuration of a training loss, and the names of losses. Imports no torch, so that `--help` reads it quickly.

A package adds a loss by an entry point of the group "glide.losses": a function (prediction, target) -> error per pixel,
[N,C,H,W] each, in whatever space the network predicts. It cannot take a built-in name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from glide.utils.entry_points import names_of, plug_ins
from glide.utils.errors import InputError

GROUP = "glide.losses"
Weighting = Literal["none", "eps", "x0", "v", "min_snr", "p2"]
KINDS: tuple[str, ...] = ("l2", "l1", "huber")
WEIGHTINGS: tuple[str, ...] = ("none", "eps", "x0", "v", "min_snr", "p2")


@dataclass(frozen=True)
class LossConfig:
    """A training loss; the default is iDDPM's hybrid loss on eps.

    kind: error per pixel: l2 e^2, l1 |e|, huber (e^2 / 2 up to `huber_delta`, linear beyond), or another package's.
    prediction: the predicted quantity, hence the space of the error e. weighting: see
    `glide.diffusion.losses.loss_weights`. vlb_weight: lambda of L_simple + lambda L_vlb (2102.09672, eq. 16), used
    if the network learns a variance. full_vlb: the bound alone, through mean and variance. InputError for an
    unknown name or a number out of range.
    """

    kind: Annotated[str, tyro.conf.arg(name="loss", metavar="{l2,l1,huber}|NAME")] = "l2"
    prediction: Annotated[Literal["eps", "x0", "v"], tyro.conf.Suppress] = "eps"
    weighting: Weighting = "none"
    gamma: float = 5.0  # min_snr: the SNR at which the weight is cut
    p2_gamma: float = 1.0  # p2: 0 is no weighting
    p2_k: float = 1.0
    max_weight: float | None = None  # upper clip of any weight; None for none
    huber_delta: float = 1.0
    vlb_weight: float = 0.001
    full_vlb: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS and self.kind not in plug_ins(GROUP):
            raise InputError(
                f"got the loss {self.kind!r}, expected one of {', '.join(names_of(GROUP, KINDS))}: choose one"
            )
        if self.weighting not in WEIGHTINGS:
            raise InputError(
                f"got the weighting {self.weighting!r}, expected one of {', '.join(WEIGHTINGS)}: choose one"
            )
        positive = (
            self.gamma,
            self.p2_k,
            self.huber_delta,
            1.0 if self.max_weight is None else self.max_weight,
        )
        if not (min(positive) > 0.0 and self.p2_gamma >= 0.0 and self.vlb_weight >= 0.0):
            raise InputError(
                f"got {self}, expected gamma, p2_k, max_weight and huber_delta above 0, p2_gamma and "
                "vlb_weight at least 0: correct the one that is not"
            )
