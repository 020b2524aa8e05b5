"""Features by name, their cache, and sets of pictures: resizing by its definition, nothing computed twice."""

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from glide.utils.entry_points import plug_ins
from glide.utils.errors import InputError
from glide.utils.images import save_png
from guidance.classifier.config import CLASSIFIERS
from guidance.classifier.load import load_classifier, save_classifier
from guidance.classifier.network import NoisyClassifier
from toolkit.evaluation.clean_resize import clean_resize
from toolkit.evaluation.extraction import extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features, features_named
from toolkit.evaluation.picture_sets import PictureArray, open_pictures

CPU = torch.device("cpu")


def noise(count: int, height: int = 12, width: int = 12, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


class Means(nn.Module):
    """The mean of each colour, and the calls of it."""

    picture_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3))
        self.calls: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        return images.mean(dim=(2, 3)) @ self.weight


def means(fingerprint: str = "a") -> Features:
    module = Means()
    return Features("means", "means", 8, 3, fingerprint, module, CPU)


def cubic(x: float) -> float:
    """Keys' kernel with a = -1/2, which Pillow calls bicubic."""
    x = abs(x)
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


def weights(of: int, to: int) -> NDArray[np.float64]:
    """Antialiased resizing as a matrix [to,of]: the kernel is as much wider as the picture gets smaller."""
    scale = max(of / to, 1.0)
    rows = []
    for i in range(to):
        centre = (i + 0.5) * of / to
        row = np.array([cubic((j + 0.5 - centre) / scale) for j in range(of)])
        rows.append(row / row.sum())
    return np.stack(rows)


@pytest.mark.parametrize(("height", "width", "size"), [(31, 20, 8), (9, 7, 16), (8, 8, 8), (24, 8, 8)])
def test_resizing_is_its_definition(height: int, width: int, size: int) -> None:
    pixels = noise(1, height, width)[0]
    exact = np.einsum(
        "ih,hwc,jw->cij", weights(height, size), pixels.astype(np.float64), weights(width, size)
    )
    found = clean_resize(pixels, size)
    assert found.dtype == np.float32 and np.allclose(found, exact.clip(0, 255), atol=1e-3)


def test_resizing_is_pillows_filter_on_float_planes_bit_for_bit() -> None:
    pixels = noise(1, 37, 50)[0]
    for channel in range(3):
        plane = Image.fromarray(pixels[:, :, channel].astype(np.float32), mode=None)
        assert plane.mode == "F"
        exact = np.asarray(plane.resize((16, 16), Image.Resampling.BICUBIC)).clip(0, 255)
        assert np.array_equal(clean_resize(pixels, 16)[channel], exact)


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    pictures = PictureArray("some", noise(11))
    first = means()
    found = extract(pictures, first, FeatureCache(tmp_path, first), batch_size=4)
    exact = clean_resize(noise(11)[5], 8).mean((1, 2)) / 127.5 - 1
    assert found.computed == 11 and np.allclose(found.features[5], exact, atol=1e-6)
    assert first.network.calls == [4, 4, 3]
    again = means()
    more = PictureArray("more", np.concatenate([noise(3, seed=1), noise(11)[::-1]]))
    second = extract(more, again, FeatureCache(tmp_path, again), batch_size=4)
    assert second.computed == 3 and again.network.calls == [3]
    assert np.array_equal(second.features[3:], found.features[::-1])
    other = means("another network")
    assert extract(pictures, other, FeatureCache(tmp_path, other)).computed == 11


def test_an_interrupted_run_keeps_its_batches(tmp_path: Path) -> None:
    class Stops(Means):
        def forward(self, images: Tensor) -> Tensor:
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().forward(images)

    stops = Features("means", "means", 8, 3, "a", Stops(), CPU)
    pictures = PictureArray("some", noise(16))
    with pytest.raises(KeyboardInterrupt):
        extract(pictures, stops, FeatureCache(tmp_path, stops), batch_size=4)
    assert extract(pictures, means(), FeatureCache(tmp_path, means()), batch_size=4).computed == 8


def test_a_damaged_file_of_the_cache_counts_as_missing(tmp_path: Path) -> None:
    pictures = PictureArray("some", noise(8))
    whole = extract(pictures, means(), FeatureCache(tmp_path, means()), batch_size=4)
    first, second = sorted(tmp_path.rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:100])
    found = extract(pictures, means(), FeatureCache(tmp_path, means()), batch_size=4)
    assert found.computed == 4 and np.array_equal(found.features, whole.features)
    cache = FeatureCache(tmp_path, means())
    second.unlink()  # after its keys were read
    assert extract(pictures, means(), cache, batch_size=4).computed == 4


def test_broken_pictures_are_counted_and_one_is_no_set(tmp_path: Path) -> None:
    for i, pixels in enumerate(noise(3)):
        Image.fromarray(pixels).save(tmp_path / f"a picture {i}.png")
    (tmp_path / "a picture 1.png").write_bytes(b"no picture")
    found = extract(open_pictures(str(tmp_path)), means())
    assert found.places == [0, 2] and list(found.broken) == ["a picture 1.png"]
    same = extract(PictureArray("same", noise(3)[[0, 2]]), means())
    assert found.sizes == {(12, 12): 2} and np.allclose(found.features, same.features)
    (tmp_path / "a picture 2.png").unlink()
    with pytest.raises(InputError, match=r"got 1 whole picture in .*1 broken: a picture 1.png"):
        extract(open_pictures(str(tmp_path)), means())


def test_transparent_pictures_are_not_mixed_by_chance(tmp_path: Path) -> None:
    Image.fromarray(noise(1)[0]).save(tmp_path / "a.png")
    Image.fromarray(noise(1)[0, :, :, 0]).save(tmp_path / "grey.png")
    assert len(extract(open_pictures(str(tmp_path)), means())) == 2
    Image.new("RGBA", (12, 12), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    with pytest.raises(InputError, match=r"got 1 transparent pictures among 3 .*clear.png"):
        extract(open_pictures(str(tmp_path)), means())
    found = extract(open_pictures(str(tmp_path)), means(), mixed=True)
    assert np.allclose(found.features[1], 1)  # white


def test_sets_have_captions_classes_and_a_held_out_part(tmp_path: Path) -> None:
    for i, pixels in enumerate(noise(30)):
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
        (tmp_path / f"{i:02}.txt").write_text(f"number {i}")
    parts = [open_pictures(str(tmp_path), split=split, share=0.3) for split in ("train", "held_out")]
    names = [[part.name_of(i) for i in range(len(part))] for part in parts]
    assert sorted(names[0] + names[1]) == [f"{i:02}.png" for i in range(30)] and min(map(len, names)) > 3
    for part, named in zip(parts, names, strict=True):
        assert [part.caption(i) for i in range(len(part))] == [f"number {int(name[:2])}" for name in named]
    drawn = tmp_path / "drawn"
    save_png(drawn / "0.png", noise(1)[0], {"prompt": "a red ring", "seed": 1})
    Image.fromarray(noise(1)[0]).save(drawn / "1.png")
    assert [open_pictures(str(drawn)).caption(i) for i in range(2)] == ["a red ring", None]
    shutil.rmtree(drawn)
    few = open_pictures(str(tmp_path), count=5, seed=3, size=6)
    assert len(few) == 5 and few[0].pixels().shape == (6, 6, 3) and few[0].width == 6
    scenes = open_pictures("shapes:one", count=4, size=16)
    assert scenes[2].pixels().shape == (16, 16, 3) and scenes.caption(2) in scenes.name_of(2)
    assert scenes[2].key != open_pictures("shapes:one", count=4, size=16, split="held_out")[2].key


def test_a_classifier_gives_the_input_of_its_last_layer() -> None:
    features, classifier = features_named("classifier:shapes-shape", CPU), load_classifier("shapes-shape")
    planes = clean_resize(open_pictures("shapes:one", count=1)[0].pixels(), 64)[None]
    rows, probabilities = features(planes)
    assert rows.shape == (1, features.width) and features.class_names[0] == "circle"
    x = torch.from_numpy(planes) / 127.5 - 1
    with torch.no_grad():
        logits = classifier(x, torch.zeros(1, dtype=torch.int64))
        head = classifier.pool.head(torch.from_numpy(rows))  # type: ignore[operator,union-attr]
    assert torch.allclose(head, logits, atol=1e-5)
    assert probabilities is not None and np.allclose(probabilities, logits.softmax(1), atol=1e-6)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three features as a package that pip installed."""
    (tmp_path / "own_features.py").write_text(
        "import torch\n"
        "class Own(torch.nn.Module):\n"
        "    picture_size = 4\n"
        "    def __init__(self, argument):\n"
        "        super().__init__()\n"
        "        self.register_buffer('by', torch.tensor(float(argument or 1)))\n"
        "    def forward(self, x):\n"
        "        return self.by * x.flatten(1)\n"
        "def flat(argument):\n"
        "    return torch.nn.Identity()\n"
        "class Maps(Own):\n"
        "    def forward(self, x):\n"
        "        return x\n"
    )
    info = tmp_path / "own_features-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-features\nVersion: 1\n")
    lines = "own = own_features:Own\nflat = own_features:flat\nmaps = own_features:Maps\n"
    (info / "entry_points.txt").write_text(f"[glide.features]\n{lines}")
    monkeypatch.syspath_prepend(tmp_path)
    plug_ins.cache_clear()
    yield
    sys.modules.pop("own_features", None)
    plug_ins.cache_clear()


def test_another_package_adds_features(installed: None) -> None:
    one, three = features_named("own", CPU), features_named("own:3", CPU)
    assert (one.size, one.width) == (4, 48) and one.fingerprint != three.fingerprint
    planes = np.full((2, 3, 4, 4), 255, np.float32)
    assert np.allclose(three(planes)[0], 3) and three(planes)[1] is None
    with pytest.raises(InputError, match=r"gave a Identity, expected an nn.Module with a picture_size"):
        features_named("flat", CPU)
    with pytest.raises(InputError, match=r"gave no tensor \[N,F\]"):
        features_named("maps", CPU)


@torch.no_grad()
def test_a_classifier_of_grey_pictures_sees_those_of_colour_in_grey(tmp_path: Path) -> None:
    config = replace(CLASSIFIERS["annotated-28"], num_classes=4)
    torch.manual_seed(0)
    classifier = NoisyClassifier(config).eval()
    save_classifier(tmp_path, classifier, {}, torch.float32)
    features = features_named(f"classifier:{tmp_path}", CPU)
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (2, 1, 28, 28)).astype(np.float32)
    rows, _ = features(np.repeat(grey, 3, axis=1))
    x, t = torch.from_numpy(grey) / 127.5 - 1, torch.zeros(2, dtype=torch.int64)
    torch.testing.assert_close(classifier.pool.head(torch.from_numpy(rows)), classifier(x, t))  # type: ignore[operator,union-attr]
    colour = rng.integers(0, 256, (2, 3, 28, 28)).astype(np.float32)
    luma = np.einsum("nchw,c->nhw", colour, [0.299, 0.587, 0.114])[:, None].repeat(3, 1)  # ITU-R 601
    np.testing.assert_allclose(features(colour)[0], features(luma.astype(np.float32))[0], atol=1e-3)


@pytest.mark.parametrize("name", ["vgg", "classifier:", "clip:", "own:3"])
def test_unknown_features_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(InputError, match=rf"got the features '?{name}'?.*efficientnet-lite0"):
        features_named(name, CPU)


def test_features_that_are_not_finite_are_refused() -> None:
    broken = Features("x", "x", 8, 3, "a", lambda images: images.mean(dim=(2, 3)) / 0, CPU)
    with pytest.raises(InputError, match="not finite from the features x"):
        extract(PictureArray("some", noise(3)), broken)
