"""A tiny prior with random weights, none of which is zero."""

import torch

from glide.networks.config import ProcessConfig, TextConfig
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.prior import Prior
from glide.networks.prior_config import PriorConfig
from glide.networks.tokenizer import Tokenizer
from support.models import CAPTIONS

WIDTH = 6
MEAN, STD = tuple(0.1 * i for i in range(WIDTH)), tuple(0.5 + 0.1 * i for i in range(WIDTH))


def tiny_prior(unit: bool = False, encoder: ImageEncoderConfig | None = None) -> Prior:
    tokenizer = Tokenizer.train(CAPTIONS, vocab_size=300, context=12)
    config = PriorConfig(
        width=16,
        layers=2,
        heads=2,
        text=TextConfig(vocab=tokenizer.n_vocab, context=12, width=16, layers=1, heads=2, pooled="mean"),
        process=ProcessConfig(steps=100, prediction="x0", variance="fixed_small"),
        image_encoder=encoder or ImageEncoderConfig("clip", "org/name", fingerprint="0" * 16, width=WIDTH),
        mean=MEAN if encoder is None else (),
        std=STD if encoder is None else (),
        unit=unit,
    )
    torch.manual_seed(0)
    prior = Prior(config, tokenizer)
    with torch.no_grad():
        for weight in prior.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return prior.eval()
