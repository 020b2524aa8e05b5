"""Measure a prior in training: embeddings drawn of held-out captions against those of the captions' pictures.

Shape letters: N captions, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from glide.data.datasets import Dataset, on_device
from glide.networks.image_encoder import PretrainedImages
from glide.networks.prior import Prior
from glide.training.train_prior_flags import TrainPrior
from toolkit.evaluation.bootstrap import line_of, mean_of
from toolkit.evaluation.features import Features
from toolkit.evaluation.image_evaluation import figures
from toolkit.evaluation.training_evaluation import RESAMPLES, batches_of
from toolkit.pipelines.prior import sample_embeddings


def prior_evaluation(
    args: TrainPrior, encoder: PretrainedImages, data: Dataset
) -> Callable[[Prior], dict[str, float]]:
    """Cosines and distances of N drawn embeddings [N,E] and true ones, for evaluation.jsonl.

    "cosine_unrelated" is the cosine to the embedding of another caption's picture: a prior that ignores its caption
    reaches no more.
    """
    captions: list[str] = []
    parts = []
    for batch in batches_of(data, args.evaluate_pictures):
        captions += batch["caption"]
        parts.append(encoder.encode(on_device(batch, "cpu")["image"]).cpu())
    true = torch.cat(parts)
    seed = args.train.seed

    def evaluate(prior: Prior) -> dict[str, float]:
        drawn = sample_embeddings(prior, captions, range(seed, seed + len(captions))).cpu()
        config = prior.config.image_encoder
        space = Features(
            config.name,
            config.kind,
            encoder.size,
            encoder.width,
            encoder.fingerprint,
            encoder.encode,
            prior.device,
        )
        cosines = F.cosine_similarity(drawn, true, dim=1).double().numpy()
        unrelated = F.cosine_similarity(drawn, true.roll(1, dims=0), dim=1).mean().item()
        found = {"cosine": mean_of(cosines, RESAMPLES, seed)}
        found |= {
            one.name: one.generated
            for one in figures(drawn.numpy(), true.numpy(), None, space, RESAMPLES, seed)
        }
        return line_of(found) | {"cosine_unrelated": unrelated}

    return evaluate
