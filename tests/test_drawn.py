"""Pictures that the model to steer draws, and a CLIP that learns to tell them from the true ones."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import randomised
from safetensors.torch import load_file
from test_train_clip import settings
from torch.nn.functional import cross_entropy, normalize

from glide.checkpoint import save_model
from glide.data import open_data
from glide.draws import mixed
from glide.errors import InputError
from glide.images import from_uint8, to_uint8
from glide.model import PRESETS, Model
from glide.shapes import captions_for_tokenizer
from glide.tokenizer import Tokenizer
from guidance.conditions import Picture
from guidance.contrastive import contrast
from guidance.drawn import CALL, DRAWN, UNGUIDED, with_drawn
from guidance.pipeline import Pipeline
from guidance.train_clip import train_clip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draws captions of the built-in scenes in 16x16."""
    tokenizer = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    config = PRESETS["tiny"]
    assert config.text is not None
    config = replace(config, text=replace(config.text, vocab=tokenizer.n_vocab))
    folder = tmp_path_factory.mktemp("models") / "base"
    save_model(folder, randomised(Model(config, tokenizer), seed=0))
    return folder


def test_the_loss_with_drawn_pictures_is_the_cross_entropy_over_all() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text, drawn = (normalize(torch.randn(5, 8, generator=generator)) for _ in range(3))
    tokens, scale, own = torch.arange(5)[:, None], torch.tensor(7.0), torch.arange(5)
    terms = contrast(image, text, tokens, scale, None, drawn)
    to_text = cross_entropy(7.0 * image @ text.T, own, reduction="none")
    to_image = cross_entropy(7.0 * text @ torch.cat([image, drawn]).T, own, reduction="none")
    torch.testing.assert_close(terms["loss"], (to_text + to_image) / 2)
    assert torch.equal(terms["drawn"], ((drawn * text).sum(1) < (image * text).sum(1)).float())
    plain = contrast(image, text, tokens, scale)
    assert torch.equal(plain["image_to_text"], terms["image_to_text"]) and "drawn" not in plain


def test_batches_come_again_with_what_was_drawn_for_their_captions(base: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(base, "cpu", call_size=CALL)
    plain = open_data("shapes", 16, seed=1)
    data = with_drawn(plain, pipe, 7, 4, range(4), seed=3, out=tmp_path)  # two batches of four
    for step in range(5):
        batch, expected = data.batch(step, 4), plain.batch(step % 2, 4)
        assert batch["caption"] == expected["caption"] and torch.equal(batch["image"], expected["image"])
        pictures = [Picture(mixed(3, DRAWN, step % 2, i), c) for i, c in enumerate(batch["caption"])]
        *_, last = pipe.draw(pictures, UNGUIDED)
        assert (to_uint8(batch["drawn"]).int() - to_uint8(last.x).int()).abs().max() <= 1
        assert torch.equal(batch["drawn"], from_uint8(to_uint8(batch["drawn"])))
    half = with_drawn(plain, pipe, 7, 4, range(2, 4), seed=3, out=tmp_path)  # of the second of two processes
    apart = half.batch(1, 4, range(2, 4))["drawn"] - data.batch(1, 4)["drawn"][2:]
    assert apart.abs().max() <= 1 / 127
    with pytest.raises(ValueError, match="not for"):
        half.batch(1, 4)


def test_what_was_drawn_is_kept_unless_it_is_of_something_else(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe, plain = Pipeline.from_pretrained(base, "cpu", call_size=CALL), open_data("shapes", 16)
    first = with_drawn(plain, pipe, 2, 2, range(2), 0, tmp_path)
    drawings: list[int] = []

    def count(self: Pipeline, pictures: list[Picture], *args: Any) -> Any:
        drawings.append(len(pictures))
        return draw(self, pictures, *args)

    draw = Pipeline.draw
    monkeypatch.setattr(Pipeline, "draw", count)
    again = with_drawn(plain, pipe, 2, 2, range(2), 0, tmp_path)
    assert drawings == [] and torch.equal(first.drawn, again.drawn)
    with_drawn(plain, pipe, 2, 2, range(2), 1, tmp_path)  # of another seed
    assert drawings == [2]
    (kept,) = (tmp_path / "drawn").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    with_drawn(plain, pipe, 2, 2, range(2), 1, tmp_path)
    assert drawings == [2, 2] and load_file(kept)["drawn"].shape == (1, 2, 16, 16, 3)


def test_it_trains_with_them_and_goes_on_exactly(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: dict[str, Any] = {"init": str(base), "like": str(base), "drawn": 8, "wrong_captions": 2}
    train_clip(settings(tmp_path / "whole", **run))

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("guidance.train_clip.retrieval", stop)  # at step 4
        train_clip(settings(tmp_path / "parts", **run))
    (tmp_path / "parts/drawn/0-4.safetensors").unlink()  # then it is drawn again
    train_clip(settings(tmp_path / "parts", **run, resume=True))
    logs = [
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert all(0.0 <= line["drawn"] <= 1.0 and 0.0 <= line["fact"] <= 1.0 for line in logs[0])
    assert [line["loss"] for line in logs[0]] == [line["loss"] for line in logs[1]]


def test_refusals(base: Path, class_folder: Path, upsampler_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="--drawn 4: expected at least 0, and the model that draws: give --like"
    ):
        train_clip(settings(tmp_path / "run", drawn=4))
    with pytest.raises(InputError, match="--drawn -1"):
        train_clip(settings(tmp_path / "run", drawn=-1, like=str(base)))
    for folder in (class_folder, upsampler_folder):
        pipe = Pipeline.from_pretrained(folder, "cpu")
        with pytest.raises(InputError, match="draws nothing from captions alone"):
            with_drawn(open_data("shapes", 16), pipe, 4, 4, range(4), 0, None)
    assert not (tmp_path / "run").exists()
