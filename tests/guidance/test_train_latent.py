"""Training guides of latents: they learn from the autoencoder's latents, hold it, and say what does not fit."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from glide.checkpoints.autoencoders import save_autoencoder
from glide.checkpoints.load import save_model
from glide.data.datasets import on_device
from glide.data.labelled import open_labelled
from glide.networks.model import Model
from glide.training.config import OptimConfig, TrainConfig
from glide.training.row_rng import RowRng
from glide.utils.errors import InputError
from guidance.classifier.guide import check_classifier
from guidance.classifier.load import load_classifier
from guidance.classifier.train import Classification, config_to_show, train_classifier
from guidance.classifier.train_flags import TrainClassifier
from guidance.clip.contrastive import Contrastive
from guidance.clip.load import load_clip
from guidance.clip.train import train_clip
from guidance.clip.train_flags import TrainClip
from support.clip_training import photos
from support.latent import latent_classifier, latent_clip, latent_model, small_autoencoder

TRAIN = TrainConfig(
    steps=2, batch_size=4, optim=OptimConfig(lr=1e-3), ema=(0.9,), dtype="float32", log_every=1, save_every=1
)
TRAIN = dataclasses.replace(TRAIN, sample_every=2)
TRUNK = {"encoder.image_size": 8}
TOWER: dict[str, Any] = {"image.size": 8, "image.patch": 2, "image.stem": [], "image.width": 32}


@pytest.fixture(scope="module")
def model() -> Model:
    return latent_model()


@pytest.fixture(scope="module")
def places(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent model, its autoencoder, and another one."""
    folder = tmp_path_factory.mktemp("latent-training")
    save_model(folder / "model", model)
    save_autoencoder(folder / "autoencoder", small_autoencoder())
    save_autoencoder(folder / "other", small_autoencoder(latent_channels=4, mean=(0.0,) * 4, std=(1.0,) * 4))
    return folder


def classifier(out: Path, **changes: Any) -> TrainClassifier:
    given: dict[str, Any] = {"preset": "tiny", "data": "shapes:one", "model": TRUNK, "train": TRAIN}
    return TrainClassifier(out=out, **{**given, "held_out_images": 8, "levels": 2, **changes})


def clip(out: Path, **changes: Any) -> TrainClip:
    given: dict[str, Any] = {"preset": "tiny", "data": "shapes:one", "model": TOWER, "train": TRAIN}
    return TrainClip(out=out, **{**given, "held_out_pairs": 8, "levels": 2, **changes})


def test_the_losses_are_those_of_latents(model: Model) -> None:
    net, words = latent_classifier(model), latent_clip(model)
    data = open_labelled("shapes:one", net.config.picture_size, "shape")
    batch = on_device(data.batch(0, 3), "cpu")
    batch = {**batch, "y": batch["y"] % 3, "caption": ["a red circle", "a blue square", "a green ring"]}
    ahead = {key: value for key, value in batch.items() if key != "image"}
    ahead["latents"] = model.first_stage.encode(batch["image"])
    t = torch.tensor([5, 50, 95])
    for task, guide in ((Classification(), net), (Contrastive(), words)):
        losses = [task(guide, one, t, RowRng(0, range(3)))["loss"] for one in (batch, ahead)]  # type: ignore[operator]
        assert torch.equal(*losses) and torch.isfinite(losses[0]).all()


def test_a_classifier_like_a_latent_model(model: Model, places: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    args = classifier(out, like=str(places / "model"))
    train_classifier(args)
    found = load_classifier(out)
    config = found.config
    assert config.first_stage == model.config.first_stage and config.process == model.config.process
    assert (config.encoder.in_channels, config.picture_size, config.picture_channels) == (5, 32, 3)
    check_classifier(dataclasses.replace(config, num_classes=1, class_names=()), model.config)
    levels = [json.loads(line) for line in (out / "levels.jsonl").read_text().splitlines()]
    assert len(levels) == 2 and all(line["loss"] > 0 for line in levels)
    more = dataclasses.replace(TRAIN, steps=3)
    train_classifier(dataclasses.replace(args, resume=True, train=more))
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == 3


def test_a_classifier_of_a_named_autoencoder(model: Model, places: Path, tmp_path: Path) -> None:
    named = str(places / "autoencoder")
    shown = config_to_show(classifier(tmp_path / "x", first_stage=named)).as_toml()
    assert f"in_channels = 5  # --first-stage {named}" in shown and "[first_stage]" in shown
    (tmp_path / "model.toml").write_text(shown)
    with pytest.raises(InputError, match="got a configuration with a first stage and no autoencoder"):
        train_classifier(classifier(tmp_path / "x", config=tmp_path / "model.toml", model={}))
    init = str(places / "model")
    with pytest.raises(
        InputError, match=f"--init {init}: got a classifier of pixels for a model that draws latents"
    ):
        train_classifier(classifier(tmp_path / "x", init=init, model={**TRUNK, "encoder.in_channels": 3}))


def test_a_clip_like_a_latent_model(model: Model, places: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train_clip(clip(out, like=str(places / "model"), first_stage=str(places / "autoencoder")))
    found = load_clip(out)
    config = found.config
    assert config.first_stage == model.config.first_stage and config.channels == 5 and config.trunk is None
    assert found.image.stem.patch.weight.shape[1] == 5  # type: ignore[union-attr]
    levels = [json.loads(line) for line in (out / "levels.jsonl").read_text().splitlines()]
    assert len(levels) == 2 and all(line["loss"] > 0 for line in levels)


def test_a_clip_begins_with_a_latent_model_and_learns_its_gradient(places: Path, tmp_path: Path) -> None:
    out, like = tmp_path / "run", str(places / "model")
    data = str(photos(tmp_path / "data", 8))
    args = clip(out, data=data, init=like, like=like, gradient_weight=1.0, deepen=1, model={}, held_out=0.0)
    trained = train_clip(args)
    assert trained.config.trunk is not None and trained.config.trunk.in_channels == 5
    assert load_clip(out).first_stage.config == trained.config.first_stage
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert last["gradient_error"] > 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"first_stage": "other", "like": "model"}, "of the latents of another autoencoder"),
        ({"like": "model", "model": {}}, "a classifier of 16x16 latents for a model of 8x8"),
        (
            {"like": "model", "model": TRUNK | {"encoder.in_channels": 3}},
            "in-channels 3 with latents of 5 channels",
        ),
        ({"first_stage": "model"}, "holds a diffusion model, expected an autoencoder model"),
        ({"model": {"encoder.in_channels": 5}}, "encoder.in_channels has 5 channels, which no picture has"),
    ],
)
def test_refusals(places: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    given = {key: value if key == "model" else str(places / value) for key, value in changes.items()}
    with pytest.raises(InputError, match=said):
        train_classifier(classifier(tmp_path / "run", **given))
    assert not (tmp_path / "run").exists()
