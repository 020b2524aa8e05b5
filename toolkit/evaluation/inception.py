"""Inception v3 (1512.00567) as FID uses it (1706.08500): the network of TensorFlow's release of 2015-12-05.

It is not that of other libraries: where a pool meets the edge it averages the pixels that are there, and the pool of
the last block takes their largest. Only distances in these features are FID, KID and the inception score. The weights
are those that pytorch-fid converted, pt_inception-2015-12-05-6726825d.pth, read by the names in that file.

Shape letters: N pictures, C channels, H W pixels, K classes.
"""

from __future__ import annotations

import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.checkpoints.state_dicts import check_finite, read_state_dict
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes

RELEASE = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
FILE = "pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d"
"""First digits, which the release has in the file's name."""
SIZE, WIDTH, CLASSES = 299, 2048, 1008
SPATIAL_CHANNELS = 7
SPATIAL_WIDTH = SPATIAL_CHANNELS * 17 * 17
MEAN, STD = 128.0, 128.0
"""Of its pictures' bytes, as in TensorFlow's graph."""
Kernel = int | tuple[int, int]


class ConvNorm(nn.Module):
    """A convolution, batch norm and ReLU."""

    def __init__(
        self, inner: int, outer: int, kernel: Kernel = 1, stride: int = 1, padding: Kernel = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outer, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


Layers = tuple[tuple[str, int, Kernel, int, Kernel], ...]
"""Name, channels, kernel, stride and padding of each layer of a branch."""


def average(x: Tensor) -> Tensor:
    """The mean of the 3x3 pixels around each that are inside the picture."""
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def largest(x: Tensor) -> Tensor:
    """The largest of the 3x3 pixels around each."""
    return F.max_pool2d(x, 3, 1, 1)


def halved(x: Tensor) -> Tensor:
    """The largest of 3x3 pixels, at every second one."""
    return F.max_pool2d(x, 3, 2)


class Block(nn.Module):
    """Branches of convolutions beside a pool, joined in the order of the paper's figures 5 to 10."""

    def __init__(self, inner: int, branches: tuple[Layers, ...], pool: str, pooled: int = 0) -> None:
        """pool: "average", "largest" or "halved". pooled: channels of the convolution behind it; 0: none."""
        super().__init__()
        self.branches, self.pool = branches, {"average": average, "largest": largest, "halved": halved}[pool]
        for branch in branches:
            width = inner
            for name, outer, kernel, stride, padding in branch:
                self.add_module(f"branch{name}", ConvNorm(width, outer, kernel, stride, padding))
                width = width if name.endswith("a") else outer  # a and b see the same
        self.branch_pool = ConvNorm(inner, pooled) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for branch in self.branches:
            y, ends = x, []
            for name, *_ in branch:
                layer = self.get_submodule(f"branch{name}")
                if name.endswith(("a", "b")):
                    ends.append(layer(y))
                else:
                    y = layer(y)
            found += ends or [y]
        pooled = self.pool(x)
        found.append(pooled if self.branch_pool is None else self.branch_pool(pooled))
        return torch.cat(found, dim=1)


def block_a(inner: int, pooled: int) -> Block:
    """35x35 pixels (figure 5)."""
    double: Layers = (("3x3dbl_1", 64, 1, 1, 0), ("3x3dbl_2", 96, 3, 1, 1), ("3x3dbl_3", 96, 3, 1, 1))
    five: Layers = (("5x5_1", 48, 1, 1, 0), ("5x5_2", 64, 5, 1, 2))
    return Block(inner, ((("1x1", 64, 1, 1, 0),), five, double), "average", pooled)


def block_b() -> Block:
    """From 35x35 to 17x17 pixels (figure 10)."""
    double: Layers = (("3x3dbl_1", 64, 1, 1, 0), ("3x3dbl_2", 96, 3, 1, 1), ("3x3dbl_3", 96, 3, 2, 0))
    return Block(288, ((("3x3", 384, 3, 2, 0),), double), "halved")


def block_c(width: int) -> Block:
    """17x17 pixels (figure 6): 7x7 as 1x7 and 7x1. width: of the inner layers."""
    flat, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
    single: Layers = (("7x7_1", width, 1, 1, 0), ("7x7_2", width, *flat), ("7x7_3", 192, *tall))
    double: Layers = (
        ("7x7dbl_1", width, 1, 1, 0),
        ("7x7dbl_2", width, *tall),
        ("7x7dbl_3", width, *flat),
        ("7x7dbl_4", width, *tall),
        ("7x7dbl_5", 192, *flat),
    )
    return Block(768, ((("1x1", 192, 1, 1, 0),), single, double), "average", 192)


def block_d() -> Block:
    """From 17x17 to 8x8 pixels."""
    three: Layers = (("3x3_1", 192, 1, 1, 0), ("3x3_2", 320, 3, 2, 0))
    seven: Layers = (
        ("7x7x3_1", 192, 1, 1, 0),
        ("7x7x3_2", 192, (1, 7), 1, (0, 3)),
        ("7x7x3_3", 192, (7, 1), 1, (3, 0)),
        ("7x7x3_4", 192, 3, 2, 0),
    )
    return Block(768, (three, seven), "halved")


def block_e(inner: int, pool: str) -> Block:
    """8x8 pixels (figure 7): 1x3 and 3x1 beside each other."""
    flat, tall = ((1, 3), 1, (0, 1)), ((3, 1), 1, (1, 0))
    single: Layers = (("3x3_1", 384, 1, 1, 0), ("3x3_2a", 384, *flat), ("3x3_2b", 384, *tall))
    double: Layers = (
        ("3x3dbl_1", 448, 1, 1, 0),
        ("3x3dbl_2", 384, 3, 1, 1),
        ("3x3dbl_3a", 384, *flat),
        ("3x3dbl_3b", 384, *tall),
    )
    return Block(inner, ((("1x1", 320, 1, 1, 0),), single, double), pool, 192)


class InceptionV3(nn.Module):
    """Pictures to the mean of the last activations, and to logits of 1008 classes."""

    def __init__(self) -> None:
        super().__init__()
        stem = {
            "Conv2d_1a_3x3": ConvNorm(3, 32, 3, 2),
            "Conv2d_2a_3x3": ConvNorm(32, 32, 3),
            "Conv2d_2b_3x3": ConvNorm(32, 64, 3, padding=1),
            "Conv2d_3b_1x1": ConvNorm(64, 80),
            "Conv2d_4a_3x3": ConvNorm(80, 192, 3),
        }
        blocks = {"Mixed_5b": block_a(192, 32), "Mixed_5c": block_a(256, 64), "Mixed_5d": block_a(288, 64)}
        blocks |= {"Mixed_6a": block_b()}
        blocks |= {
            f"Mixed_6{name}": block_c(width) for name, width in zip("bcde", (128, 160, 160, 192), strict=True)
        }
        blocks |= {
            "Mixed_7a": block_d(),
            "Mixed_7b": block_e(1280, "average"),
            "Mixed_7c": block_e(2048, "largest"),
        }
        for name, module in {**stem, **blocks}.items():
            self.add_module(name, module)
        self.stem, self.blocks = tuple(stem), tuple(blocks)
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """[N,3,299,299] in [-1, 1] -> features [N,2048] and logits [N,1008].

        The logits are without their bias, as in the inception scores of TensorFlow's code and ADM's.
        """
        x = self._through(images, self.blocks)
        features = x.mean(dim=(2, 3))
        return features, features @ self.fc.weight.mT

    def spatial(self, images: Tensor) -> Tensor:
        """[N,3,299,299] in [-1, 1] -> features in their places [N,2023] (sFID: 2103.03841, section 4.1).

        The first 7 channels of the 1x1 convolution of the third 17x17 block, mixed_6/conv in TensorFlow's graph.
        """
        x = self._through(images, self.blocks[: self.blocks.index("Mixed_6d")])
        x = self.get_submodule("Mixed_6d.branch1x1")(x)[:, :SPATIAL_CHANNELS]
        return x.permute(0, 2, 3, 1).flatten(1)

    def _through(self, images: Tensor, blocks: tuple[str, ...]) -> Tensor:
        """Pictures -> activations behind the stem and the blocks."""
        x = ((images + 1) * 127.5 - MEAN) / STD
        for name in self.stem:
            x = self.get_submodule(name)(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = halved(x)
        for name in blocks:
            x = self.get_submodule(name)(x)
        return x


def load_inception(path: str) -> InceptionV3:
    """The network with the weights of pytorch-fid's file. InputError for a missing, a damaged or another file."""
    found = hashlib.sha256(read_bytes(path)).hexdigest()
    if not found.startswith(SHA256):
        raise InputError(
            f"got {path} with the SHA-256 {found[:8]}..., expected {SHA256}...: fetch {RELEASE}{FILE} again"
        )
    state = read_state_dict(path)
    check_finite(state)
    with torch.device("meta"):
        network = InceptionV3()
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise InputError(
            f"got {path} with other weights than Inception's, expected {FILE}: fetch it"
        ) from error
    return network.eval().requires_grad_(False)
