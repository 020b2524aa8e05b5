"""Train a prior, whose drawn embeddings are compared with true ones on the way."""

from __future__ import annotations

from glide.training.train_prior import train_prior
from glide.training.train_prior_flags import TrainPrior
from toolkit.evaluation.prior_evaluation import prior_evaluation
from toolkit.pipelines.prior import sample_embeddings


def train(args: TrainPrior) -> None:
    """The training, which draws by the pipeline's samplers. InputError as `train_prior`."""
    train_prior(args, sample_embeddings, prior_evaluation)
