"""Inception v3: values recorded from pytorch-fid 0.3.0's network with the same weights, and files that are not its."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from glide.utils.errors import InputError
from toolkit.evaluation import inception
from toolkit.evaluation.features import features_named
from toolkit.evaluation.image_evaluation import frechet_name
from toolkit.evaluation.inception import InceptionV3, load_inception

CPU = torch.device("cpu")
RECORDED = {0: 0.01570962928235531, 1500: 0.15746189653873444, 2047: 0.396886944770813}
"""Features of a picture of 107x107 by their number, of torchvision 0.28 with pytorch-fid's blocks."""
LENGTH = 8.049324989318848
"""Of all of them."""


def filled(network: InceptionV3) -> InceptionV3:
    """Weights that depend on their names alone."""
    for name, value in network.state_dict().items():
        if value.dtype == torch.int64:
            continue
        seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        draw = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(value.shape), np.float32))
        if value.ndim > 1:
            value.copy_(draw * (2 / value[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            value.copy_(1 + 0.2 * draw.abs())
        elif name.endswith("weight"):
            value.copy_(1 + 0.1 * draw)
        else:
            value.copy_(0.1 * draw)
    return network.eval()


@pytest.mark.slow
def test_it_is_the_reference_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = filled(InceptionV3())
    pixels = torch.from_numpy(np.random.default_rng(1).random((1, 3, 107, 107), np.float32)) * 255
    with torch.no_grad():
        features, logits = network(pixels / 127.5 - 1)
    for number, value in RECORDED.items():
        assert float(features[0, number]) == pytest.approx(value, rel=1e-3)
    assert float(features.norm()) == pytest.approx(LENGTH, rel=1e-4)
    assert torch.allclose(logits, features @ network.fc.weight.T)
    path = tmp_path / "weights.pth"
    torch.save(network.state_dict(), path)
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest()[:8])
    named = features_named(f"inception:{path}", CPU)
    assert (named.kind, named.size, named.width) == ("inception", 299, 2048)
    with torch.no_grad():
        assert torch.equal(load_inception(str(path))(pixels / 127.5 - 1)[0], features)
    spatial = features_named(f"inception-spatial:{path}", CPU)
    assert (spatial.kind, spatial.size, spatial.width) == ("inception-spatial", 299, 2023)
    assert spatial.fingerprint != named.fingerprint and frechet_name(spatial) == "sFID"
    seen: list[torch.Tensor] = []
    hook = network.get_submodule("Mixed_6d.branch1x1.bn").register_forward_hook(
        lambda *args: seen.append(args[2])
    )
    planes = np.random.default_rng(2).random((1, 3, 299, 299), np.float32) * 255
    with torch.no_grad():
        network(torch.from_numpy(planes) / 127.5 - 1)
    hook.remove()
    found, classes = spatial(planes)
    assert classes is None and found.shape == (1, 2023)
    first = seen[0].relu()[0, :7].permute(1, 2, 0)
    assert torch.equal(torch.from_numpy(found[0]).view(17, 17, 7), first)


def test_its_weights_are_named_as_in_the_file() -> None:
    with torch.device("meta"):
        names = InceptionV3().state_dict()
    assert len(names) == 94 * 6 + 2
    assert names["Mixed_6c.branch7x7dbl_5.conv.weight"].shape == (192, 160, 1, 7)
    assert names["Mixed_7c.branch3x3dbl_3b.bn.running_mean"].shape == (384,)
    assert names["fc.weight"].shape == (1008, 2048)


def test_another_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"got the features inception without weights.*6726825d.pth"):
        features_named("inception", CPU)
    with pytest.raises(InputError, match=r"expected inception-spatial:FILE: fetch"):
        features_named("inception-spatial", CPU)
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"expected 6726825d\.\.\.: fetch https"):
        features_named(f"inception:{path}", CPU)
    monkeypatch.setattr(inception, "SHA256", "")
    with pytest.raises(InputError, match="other weights than Inception's"):
        features_named(f"inception:{path}", CPU)
    with pytest.raises(InputError, match="nowhere"):
        features_named("inception:nowhere.pth", CPU)
