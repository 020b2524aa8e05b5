"""The noisy CLIP as a frozen image encoder: its embedding of a clean picture (t = 0).

Found by the entry point "noisy-clip" of the group glide.image_encoders, as glide imports no guidance.

Shape letters: N pictures, C channels, S size of the CLIP's pictures, E embedding width, D width, h w places.
"""

from __future__ import annotations

import torch
from torch import Tensor

from glide.checkpoints.load import resolve
from glide.checkpoints.provenance import fingerprint
from glide.networks.image_encoder import PretrainedImages
from glide.networks.vision_transformer import ImageEncoder
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from glide.utils.hub import commit_of
from guidance.classifier.image_encoder import trunk_maps
from guidance.classifier.network import NoisyClassifier
from guidance.clip.load import EMBEDDED, PUBLISHED, load_clip
from guidance.clip.network import NoisyClip
from guidance.clip.openai import is_pair


class NoisyClipImages(PretrainedImages):
    """`NoisyClip.encode_image` at t = 0, of unit norm."""

    def __init__(self, clip: NoisyClip) -> None:
        channels = clip.config.picture_channels
        super().__init__(
            clip,
            width=clip.config.embedding,
            size=clip.config.picture_size,
            fingerprint=fingerprint(clip),
            mean=(0.5,) * channels,  # [-1, 1] as it is
            std=(0.5,) * channels,
        )
        self.clip = clip

    def _embed(self, x: Tensor) -> Tensor:
        return self.clip.embed_images(x)

    def _maps(self, x: Tensor) -> list[Tensor]:
        """Of a U-Net's down path: the last activation of each resolution; of a vision transformer: of each block."""
        tower = self.clip.image
        if isinstance(tower, NoisyClassifier):
            return trunk_maps(tower, x)
        if self.clip.config.first_stage is not None:
            raise InputError(
                "got a noisy CLIP of latents for feature maps, expected one of pixels, as latents are encoded without "
                "a gradient: give another image encoder"
            )
        t = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        assert isinstance(tower, ImageEncoder)
        side = self.clip.config.image.grid
        return [h[:, 1:].mT.unflatten(2, (side, side)) for h in tower.hidden(x, t)]


def load(place: str) -> NoisyClipImages:
    """The noisy CLIP of that name: a folder, an embedded one, a published pair or a hub id.

    InputError as `load_clip`.
    """
    commit = None
    if not is_remote(place) and not is_pair(place):
        folder = resolve(place, EMBEDDED, published=PUBLISHED)
        place, commit = str(folder), commit_of(folder)
    encoder = NoisyClipImages(load_clip(place))
    encoder.commit = commit
    return encoder
