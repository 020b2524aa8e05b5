"""A linear probe: softmax regression on frozen features, which says of a picture how likely each class is.

Features are divided by their length, and the classes' weights, too; a trained scale stands before the softmax. With
few pictures of each of many classes this generalises better than free weights (1904.04232, section 3.1, Baseline++).

Shape letters: N pictures, F features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS, RATE, DECAY = 120, 0.03, 1e-4
SCALE = 16.0
"""Of cosines, at the beginning."""


@dataclass(frozen=True)
class LinearProbe:
    """mean: of the training features, [F]. weights: of length 1, [K,F]. scale: of their cosines."""

    mean: Tensor
    weights: Tensor
    scale: float

    def logits(self, features: Tensor) -> Tensor:
        """[N,F] -> [N,K]."""
        return self.scale * F.normalize(features - self.mean, dim=1) @ self.weights.mT


def train_probe(features: Tensor, labels: Tensor, classes: int, smoothing: float = 0.1) -> LinearProbe:
    """Softmax regression of labels [N] on features [N,F], by AdamW on all pictures at once.

    It begins with the mean of each class, so that nothing is drawn by chance.
    """
    mean = features.mean(0)
    x = F.normalize(features - mean, dim=1)
    sums = torch.zeros(classes, x.shape[1]).index_add_(0, labels, x)
    weights, log_scale = F.normalize(sums, dim=1).requires_grad_(), torch.tensor(SCALE).log().requires_grad_()
    optimizer = torch.optim.AdamW([weights, log_scale], lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = log_scale.exp() * x @ F.normalize(weights, dim=1).mT
        F.cross_entropy(logits, labels, label_smoothing=smoothing).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return LinearProbe(mean, F.normalize(weights, dim=1).detach(), float(log_scale.exp()))


def top(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """True for each picture whose label is among its `count` likeliest classes, [N,K] and [N] -> [N]."""
    return (logits.topk(min(count, logits.shape[1]), dim=1).indices == labels[:, None]).any(1)
