"""Distributions of training timesteps: uniform, logit-normal, or in proportion to the loss."""

from typing import Protocol

import torch
from torch import Tensor

from glide.utils.errors import InputError


class TimestepSampler(Protocol):
    """A source of training timesteps whose state can be saved with a run."""

    steps: int  # T

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Timesteps, LongTensor [n] in 0 .. T-1, and weights [n] that keep the mean loss unbiased.

        Both on the CPU, whatever the model runs on: the same draws everywhere.
        """
        ...

    def update(self, t: Tensor, loss: Tensor) -> None:
        """Learn from losses [n] at timesteps [n], before weighting."""
        ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class FixedDistribution:
    """A fixed distribution: it learns nothing from losses and has no state."""

    def update(self, t: Tensor, loss: Tensor) -> None:
        pass

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert not state


class UniformTimesteps(FixedDistribution):
    """Timesteps with a density in proportion to t**power, weight 1; power 0 is the uniform distribution.

    The noisiest steps decide where an object stands and what it is; a power above 0 trains on them more often. This
    changes the mean loss on purpose: its weight at t grows by t**power.
    """

    def __init__(self, steps: int, power: float = 0.0) -> None:
        """Raises InputError for a negative power."""
        if not power >= 0.0:
            raise InputError(
                f"got the power {power} of timesteps, expected at least 0: leave it out for none"
            )
        self.steps, self.power = steps, power

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if not self.power:
            return torch.randint(0, self.steps, (n,), generator=generator), torch.ones(n)
        share = torch.rand(n, generator=generator, dtype=torch.float64) ** (1.0 / (1.0 + self.power))
        return (share * self.steps).long().clamp(max=self.steps - 1), torch.ones(n)


class LogitNormalTimesteps(FixedDistribution):
    """Timesteps sigmoid(mean + deviation * normal) of the whole way, weight 1 (2403.03206, section 3.1).

    The noisiest steps have the largest losses, most of which cannot be reduced, and they drown the signal of the middle
    steps, which decide the shapes of objects. The noisiest steps decide where objects stand: train on them first.
    """

    def __init__(self, steps: int, mean: float = 0.0, deviation: float = 1.0) -> None:
        """mean: above 0 prefers noise. Raises InputError for a deviation that is not above 0."""
        if not deviation > 0.0:
            raise InputError(f"got the deviation {deviation} of timesteps, expected more than 0: try 1")
        self.steps, self.mean, self.deviation = steps, mean, deviation

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        normal = torch.randn(n, generator=generator, dtype=torch.float64)
        share = torch.sigmoid(self.mean + self.deviation * normal)
        return (share * self.steps).long().clamp(max=self.steps - 1), torch.ones(n)


class LossSecondMoment:
    """Timesteps in proportion to the root mean square of their recent losses (2102.09672, eq. 18).

    Uniform until every timestep has `history` losses; a share `uniform_prob` stays uniform, so that no timestep
    is lost. With several processes, update() must receive the losses of all of them.
    """

    def __init__(self, steps: int, history: int = 10, uniform_prob: float = 0.001) -> None:
        if history < 1 or not 0.0 <= uniform_prob <= 1.0:
            raise InputError(
                f"got history {history} and uniform_prob {uniform_prob}, expected at least 1, and 0 to 1: "
                "try 10 and 0.001"
            )
        self.steps, self.uniform_prob = steps, uniform_prob
        self.losses = torch.zeros(
            steps, history, dtype=torch.float64
        )  # [T,history], a ring for each timestep
        self.counts = torch.zeros(steps, dtype=torch.int64)  # [T] losses received

    def probabilities(self) -> Tensor:
        """The current distribution over timesteps, float64 [T]."""
        uniform = torch.full((self.steps,), 1.0 / self.steps, dtype=torch.float64)
        if self.counts.min() < self.losses.shape[1]:
            return uniform
        moment = self.losses.square().mean(dim=1).sqrt()
        if moment.sum() == 0.0:
            return uniform
        return (1.0 - self.uniform_prob) * moment / moment.sum() + self.uniform_prob * uniform

    def sample(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        p = self.probabilities()
        t = torch.multinomial(p, n, replacement=True, generator=generator)
        return t, (1.0 / (self.steps * p[t])).float()

    def update(self, t: Tensor, loss: Tensor) -> None:
        for step, value in zip(t.tolist(), loss.detach().double().tolist(), strict=True):
            self.losses[step, int(self.counts[step]) % self.losses.shape[1]] = value
            self.counts[step] += 1

    def state_dict(self) -> dict[str, Tensor]:
        return {"losses": self.losses.clone(), "counts": self.counts.clone()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        assert state["losses"].shape == self.losses.shape and state["counts"].shape == self.counts.shape
        self.losses, self.counts = state["losses"].clone(), state["counts"].clone()
