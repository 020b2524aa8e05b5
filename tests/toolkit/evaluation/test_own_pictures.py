"""The figures of a model of few pictures, where what is drawn is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.networks.model import Model
from support.models import randomised
from toolkit.evaluation import own_pictures
from toolkit.evaluation.features import Features
from toolkit.evaluation.own_pictures import OwnPictures
from toolkit.evaluation.training_evaluation import Asked

SIZE = 8
Pixels = np.ndarray


def plain_features() -> Features:
    """The pixels themselves as features."""
    return Features("pixels", "pixels", SIZE, 3 * SIZE**2, "p", lambda x: x.flatten(1), torch.device("cpu"))


def picture(i: int) -> Pixels:
    return np.random.default_rng(i).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def write(folder: Path, count: int) -> Path:
    folder.mkdir()
    for i in range(count):
        Image.fromarray(picture(i)).save(folder / f"{i:03d}.png")
        (folder / f"{i:03d}.txt").write_text(f"A thing, number {i}!")
    return folder


def of(data: Path, model: Model, share: float, cache: Path | None = None) -> OwnPictures:
    return OwnPictures(str(data), model.config, plain_features(), share, 0, cache)


def copies(model: Model, asked: Asked, scale: float) -> Pixels:
    """A perfect memory: the picture that belongs to each caption."""
    return np.stack([picture(int(caption.split()[-1].rstrip("!"))) for caption in asked.captions])


def test_a_model_that_knows_everything_by_heart(
    text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_pictures, "draw", copies)
    own = of(write(tmp_path / "photos", 150), text_model, 0.2, tmp_path)
    assert own.held_out is not None and own.real == 150 and 20 <= len(own.held_out) < 45
    found = own.measure(text_model, 30)
    assert len(found.trained.rows) == 30 and found.new is not None
    for name in ("captions_right", "captions_right_new", "memorised", "memorised_colours"):
        assert found.figures[name].value == 1.0, name
    # pictures of held-out captions are true, but no copies of training pictures
    assert found.figures["memorised_new"].value < 0.2
    assert found.figures["memorised_colours_new"].value < 0.2
    assert own.judge_itself(30).value == 1.0
    assert (tmp_path / "features").is_dir()


def test_a_model_that_draws_the_wrong_pictures(
    text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = of(write(tmp_path / "photos", 40), text_model, 0.0)
    assert own.held_out is None
    names = {name: i for i, (name, _) in enumerate(own.training.subjects)}

    def next_one(model: Model, asked: Asked, scale: float) -> Pixels:
        return np.stack([picture((names[caption] + 1) % 40) for caption in asked.captions])

    monkeypatch.setattr(own_pictures, "draw", next_one)
    found = own.measure(text_model, 100)
    assert len(found.trained.rows) == 40 and found.new is None
    assert found.figures["captions_right"].value == 0.0 and found.figures["memorised"].value == 1.0
    assert found.figures["training_distance"].value == pytest.approx(0.0, abs=0.1)
    assert set(found.figures) == {
        "captions_right",
        "memorised",
        "memorised_colours",
        "training_distance",
    }

    def noise(model: Model, asked: Asked, scale: float) -> Pixels:
        return np.stack([picture(1000 + i) for i in range(len(asked.captions))])

    monkeypatch.setattr(own_pictures, "draw", noise)
    assert own.measure(text_model, 40).figures["memorised"].value < 0.3


def test_soft_copies_are_found_by_their_colours(
    text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In features that see nothing but sharpness, no soft picture is near to a sharp one."""

    def sharpness(x: torch.Tensor) -> torch.Tensor:
        return (x[..., 1:] - x[..., :-1]).flatten(1)

    def smooth(i: int) -> Pixels:
        return np.asarray(Image.fromarray(picture(i)[:2, :2]).resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    def drawn(model: Model, asked: Asked, scale: float) -> Pixels:
        numbers = [int(caption.split()[-1].rstrip("!")) for caption in asked.captions]
        return np.stack([smooth(i).astype(np.float64).clip(0, 255).astype(np.uint8) for i in numbers])

    data = write(tmp_path / "photos", 60)
    for i in range(60):  # as true ones, with noise that the drawn ones lack
        noise = np.random.default_rng((1, i)).normal(0, 12, (SIZE, SIZE, 3))
        pixels = (smooth(i) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(data / f"{i:03d}.png")
    monkeypatch.setattr(own_pictures, "draw", drawn)
    features = replace(plain_features(), network=sharpness, width=3 * SIZE * (SIZE - 1))
    own = OwnPictures(str(data), text_model.config, features, 0.0, 0, None)
    found = own.measure(text_model, 60)
    assert found.figures["memorised_colours"].value == 1.0
    assert len(found.trained.copied) == 60
    assert all(found.trained.soft_copies.rows[i, 0] == found.trained.rows[i] for i in range(60))


def test_captions_are_compared_without_case_and_marks(text_model: Model, tmp_path: Path) -> None:
    data = write(tmp_path / "photos", 12)
    (data / "003.txt").write_text("a THING number 2")
    own = of(data, text_model, 0.0)
    assert own.training.concepts[2] == own.training.concepts[3] == "a thing number 2"
    assert len(set(own.training.concepts)) == 11


def test_classes_count_as_classes(
    class_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(12):
        path = tmp_path / "photos" / f"{i % 4}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(path)
    model = randomised(Model(replace(class_model.config, num_classes=4, class_names=tuple("0123"))), seed=1)
    own = of(tmp_path / "photos", model, 0.0)

    def of_the_class(model: Model, asked: Asked, scale: float) -> Pixels:
        return np.stack([picture(one.label or 0) for one in asked.requests])  # the first of the class

    monkeypatch.setattr(own_pictures, "draw", of_the_class)
    assert own.measure(model, 12).figures["captions_right"].value == 1.0
    text = replace(class_model.config, num_classes=0, null_class=False, class_names=())
    assert not OwnPictures(str(tmp_path / "photos"), text, plain_features(), 0.0, 0, None).names


def test_pictures_that_a_training_skips_are_left_out(
    text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "photos", 12)
    (data / "003.txt").unlink()
    (data / "005.txt").write_text(" ")
    (data / "007.png").write_bytes(b"no picture")
    own = of(data, text_model, 0.0)
    assert len(own.training) == 9 == len(own.training.found.features)
    monkeypatch.setattr(own_pictures, "draw", copies)
    assert own.measure(text_model, 9).figures["captions_right"].value == 1.0
    assert (own.training.pixels(3) == picture(4)).all()
