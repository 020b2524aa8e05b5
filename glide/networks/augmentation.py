"""The input that says how a training picture was moved (EDM, 2206.00364, appendix F.2)."""

from torch import nn

from glide.networks.layers import zero_init

LABELS = 6
"""Numbers that describe a movement (`glide.training.augmentation.augment`)."""


def augmentation_layer(emb_width: int) -> nn.Linear:
    """From labels [N,LABELS] to what is added to the time embedding [N,E].

    Without a bias, so that a picture that was not moved, as all are in sampling, adds nothing; zero at first, so that
    a trained model with the layer computes what it did without.
    """
    return zero_init(nn.Linear(LABELS, emb_width, bias=False))
