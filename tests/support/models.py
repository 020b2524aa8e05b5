"""Shared by tests: CAPTIONS, CLASSES, close, randomised, tiny_unet."""

import torch
from torch import Tensor, nn

from glide.networks.config import UNetConfig
from glide.networks.model import Model
from glide.utils import dtype as dtype

CAPTIONS = ["a red circle", "a blue square above a green ring", "three yellow stars on a black background"]


CLASSES = ("apple", "banana", "golden retriever", "gold fish", "tench")


def tiny_unet(out_channels: int) -> UNetConfig:
    """A U-Net with every kind of layer, small enough for a step to take about a millisecond."""
    return UNetConfig(
        image_size=8,
        out_channels=out_channels,
        channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention=(2,),
        head_channels=32,
    )


def randomised(model: Model, seed: int) -> Model:
    """Weights that depend on the seed alone, and none is zero: else every picture would be the same."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            draw = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:  # biases, and the norms' weights
                weight.copy_(0.1 * draw + float(name.endswith("weight")))
            else:  # embeddings are large, so that conditions are seen in the picture
                weight.copy_(draw if id(weight) in embeddings else draw * weight[0].numel() ** -0.5)
    return model.eval()


def close(a: Tensor, b: Tensor) -> None:
    """Pictures by other network calls: the noisiest step magnifies the last bits of epsilon."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-3)
