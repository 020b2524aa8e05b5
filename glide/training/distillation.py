"""Distillation: objectives whose target is a guided teacher's, or the student's own less noisy, prediction.

Each is a task of `glide.training.fit.fit`, and differs from the others only in its `target`. The student's error is
measured in the space that it predicts in, weighted as in any training.

Shape letters: N batch, C channels, H W pixels, T training timesteps, S steps of the student, K steps of the teacher for
each of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glide.data.wrappers import TRAINING_STEP
from glide.diffusion.denoiser import split_variance, to_x0
from glide.diffusion.losses import loss_terms
from glide.diffusion.process import Array, Process, gather
from glide.networks.model import Model
from glide.training.objectives import DiffusionObjective, Noised
from glide.training.row_rng import RowRng
from glide.training.teacher import Inputs, Teacher


@dataclass(frozen=True, eq=False)
class Moment:
    """A noised batch at a timestep, and the guidance that it is drawn with."""

    batch: dict[str, Any]
    noised: Noised
    t: Tensor  # [N]
    null: Inputs | None
    """The teacher's words left out, where it is guided by two evaluations."""
    strength: Tensor | None  # [N]


@dataclass(frozen=True, eq=False)
class Distillation(ABC):
    """A student in training: its prediction at x_t against a target without gradient."""

    base: DiffusionObjective
    """Makes the noised batch, and has the loss."""
    teacher: Teacher
    strengths: tuple[float, ...] = ()
    """The range of the strength of guidance; empty: none."""

    def __call__(self, model: Model, batch: dict[str, Any], t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        """batch, t [N]: as `DiffusionObjective.noised` -> [N] losses."""
        t = self.snapped(t)
        noised = self.base.noised(model, batch, t, draws)
        strength = self._strength(draws, noised.x0)
        if strength is not None:
            noised.inputs["guidance_strength"] = strength
        target = self.target(model, Moment(batch, noised, t, self._null(batch, strength), strength))
        output, _ = split_variance(model(noised.x_t, t, noised.inputs).float(), noised.x0.shape[1])
        alpha, sigma = gather(self.alpha, t, target), gather(self.sigma, t, target)
        eps = (noised.x_t - alpha * target) / sigma  # the noise that goes with the target
        terms = loss_terms(model.process, self.base.loss, output, target, noised.x_t, t, eps)
        return terms | {"loss": terms["loss"] * self.weight(batch, t)}

    @abstractmethod
    def target(self, model: Model, at: Moment) -> Tensor:
        """The x0 [N,C,H,W] that the student learns to predict at `at`, without gradient."""

    def snapped(self, t: Tensor) -> Tensor:
        """The timesteps [N] that are trained in place of the drawn ones."""
        return t

    def weight(self, batch: dict[str, Any], t: Tensor) -> Tensor | float:
        """A factor on the loss [N]."""
        return 1.0

    def check(self, model: Model) -> None:
        """InputError if the model does not fit the task."""
        self.base.check(model)

    @property
    def process(self) -> Process:
        return self.teacher.model.process

    @property
    def alpha(self) -> Array:
        return self.teacher.alpha

    @property
    def sigma(self) -> Array:
        return self.teacher.sigma

    def _strength(self, draws: RowRng, like: Tensor) -> Tensor | None:
        """Strengths [N], even in log(1 + w), as most pictures are drawn at small ones; None where there is none."""
        if not self.strengths:
            return None
        low, high = (math.log1p(w) for w in self.strengths)
        return torch.expm1(low + (high - low) * draws.uniform()).clamp(*self.strengths).to(like.device)

    def _null(self, batch: dict[str, Any], strength: Tensor | None) -> Inputs | None:
        """The teacher's null words, where it needs them."""
        if strength is None or self.teacher.receives_strength or not self.teacher.has_null:
            return None
        everything = torch.ones(len(strength), dtype=torch.bool)
        return self.base.words(self.teacher.model, batch, everything)


class GuidanceDistillation(Distillation):
    """One evaluation for two: the teacher's guided x0 at the same x_t (2210.03142, algorithm 1)."""

    def target(self, model: Model, at: Moment) -> Tensor:
        return self.teacher.x0(at.noised.x_t, at.t, at.noised.inputs, at.null, at.strength)


@dataclass(frozen=True, eq=False)
class StepHalving(Distillation):
    """One step for two of the teacher's, or for K of them: progressive distillation (2202.00512, algorithm 2).

    The target is the x0 by which one step of DDIM ends where the teacher's K end.
    """

    kept: tuple[int, ...] = ()
    """Timesteps [S] of the student's steps, increasing."""
    substeps: int = 2
    """K."""

    def snapped(self, t: Tensor) -> Tensor:
        """The nearest of the student's timesteps that is as noisy or noisier, else the noisiest."""
        kept = torch.tensor(self.kept, device=t.device)
        return kept[torch.searchsorted(kept, t).clamp(max=len(kept) - 1)]

    def target(self, model: Model, at: Moment) -> Tensor:
        taus, shares = self._walks
        row = torch.searchsorted(torch.tensor(self.kept, device=at.t.device), at.t)  # [N]
        x, target = at.noised.x_t, torch.zeros_like(at.noised.x_t)
        for k in range(self.substeps):
            here, below = (torch.from_numpy(taus[:, i]).to(row.device)[row] for i in (k, k + 1))
            x0 = self.teacher.x0(x, here, at.noised.inputs, at.null, at.strength)
            target = target + gather(shares[:, k], row, x) * x0
            x = step_down(self.process, x, x0, here, below)
        return target

    @cached_property
    def _walks(self) -> tuple[NDArray[np.int64], Array]:
        return halving_walks(self.process, self.kept, self.substeps)


def halving_walks(process: Process, kept: tuple[int, ...], substeps: int) -> tuple[NDArray[np.int64], Array]:
    """The teacher's timesteps [S,K+1] from each of the student's to the next one below, -1 for the picture, and the
    share [S,K] of each of its x0 in the target.

    A step of DDIM moves x / sigma by x0 times the growth of alpha / sigma (2010.02502, eq. 13), so K steps are one with
    the mean of their x0, weighted by that growth. To the picture alpha / sigma grows without bound: the last x0 counts
    alone, as it does in the steps themselves.
    """
    ends = np.array([-1, *kept[:-1]])  # [S]
    way = np.arange(substeps + 1) / substeps  # [K+1]
    taus = np.rint(np.array(kept)[:, None] * (1 - way) + ends[:, None] * way).astype(np.int64)
    snr = np.append(np.sqrt(process.snr), np.inf)  # [T+1] alpha / sigma; the last one of the picture
    with np.errstate(invalid="ignore"):
        growth = np.diff(snr[taus], axis=1)
        shares = growth / growth.sum(axis=1, keepdims=True)
    to_picture = taus[:, -1] == -1
    shares[to_picture] = np.eye(substeps)[-1]
    return taus, shares


def step_down(process: Process, x: Tensor, x0: Tensor, t: Tensor, below: Tensor) -> Tensor:
    """A step of DDIM (2010.02502, eq. 13) from timesteps t [N] to `below` [N], where -1 is the picture, x0."""
    alphas = np.append(np.sqrt(process.alpha_bar), 1.0)  # [T+1]
    sigmas = np.append(np.sqrt(1.0 - process.alpha_bar), 0.0)  # [T+1]
    shrink = gather(sigmas, below, x) / gather(sigmas, t, x)
    return shrink * x + (gather(alphas, below, x) - gather(alphas, t, x) * shrink) * x0


@dataclass(frozen=True, eq=False)
class ConsistencyTuning(Distillation):
    """The student's own x0 at a less noisy timestep of the same path (Easy Consistency Tuning, 2406.14548).

    The less noisy x_r comes of the same picture and noise, as there, or, where guidance is distilled, of one step of
    the guided teacher: pictures of the data know nothing of a strength. In the first stage r is 0, and the target is
    the picture, or the teacher's x0, as before; later r comes nearer to t. Both passes have the same dropout.
    """

    stage_steps: int = 1000
    """Training steps of a stage."""
    stages: int = 8
    """The number of stages; the last one goes on to the end."""
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0

    def target(self, model: Model, at: Moment) -> Tensor:
        r = self._less_noisy(at.batch, at.t)
        noised = at.noised
        if at.strength is None:
            x0 = noised.x0
        else:
            x0 = self.teacher.x0(noised.x_t, at.t, noised.inputs, at.null, at.strength)
        with torch.no_grad():
            x_r = step_down(self.process, noised.x_t, x0, at.t, r)
            prediction = self._student_x0(model, x_r, r.clamp(min=0), noised.inputs)
        return torch.where((r < 0)[:, None, None, None], x_r, prediction)

    def _student_x0(self, model: Model, x: Tensor, t: Tensor, inputs: Inputs) -> Tensor:
        mean, _ = split_variance(model(x, t, inputs).float(), x.shape[1])
        alpha, sigma = gather(self.alpha, t, x), gather(self.sigma, t, x)
        return model.first_stage.clamp(to_x0(model.config.process.prediction, mean, x, alpha, sigma))

    def weight(self, batch: dict[str, Any], t: Tensor) -> Tensor:
        """t / (t - r) in noise ratios: as there 1 / (t - r), but 1 in the first stage, so that the rate stays."""
        ratio, stage = self._ratios[t.cpu().numpy()], self.stage(batch)
        r = less_noisy(ratio, stage, self.q, self.k, self.b)
        return torch.from_numpy(ratio / (ratio - r)).float().to(t.device)

    def stage(self, batch: dict[str, Any]) -> int:
        """From 0; the last one for a batch that is of no training step."""
        if TRAINING_STEP not in batch:
            return self.stages - 1
        return min(int(batch[TRAINING_STEP][0]) // self.stage_steps, self.stages - 1)

    @cached_property
    def _ratios(self) -> Array:
        """sigma / alpha of every timestep, [T]: the papers' t."""
        return np.sqrt((1.0 - self.process.alpha_bar) / np.maximum(self.process.alpha_bar, 1e-12))

    def _less_noisy(self, batch: dict[str, Any], t: Tensor) -> Tensor:
        """r [N] for t [N]: the noisiest timestep not above the schedule's ratio, and below t; -1 is the picture."""
        ratios, index = self._ratios, t.cpu().numpy()
        r = less_noisy(ratios[index], self.stage(batch), self.q, self.k, self.b)
        below = np.searchsorted(ratios, r, side="right") - 1
        return torch.from_numpy(np.minimum(below, index - 1)).to(t.device)


def less_noisy(t: Array, stage: int, q: float, k: float, b: float) -> Array:
    """r = t (1 - (1 + k sigmoid(-b t)) / q^stage), at least 0: t a noise ratio (2406.14548, section 3.3)."""
    n = 1.0 + k / (1.0 + np.exp(np.minimum(b * t, 700.0)))
    return np.maximum(t * (1.0 - n / math.pow(q, stage)), 0.0)
