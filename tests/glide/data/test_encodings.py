"""Encodings on disk: each caption is encoded once, and a training with them is that without."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from glide.checkpoints.text_encoders import completed, load_encoder
from glide.data.datasets import open_data
from glide.data.encodings import Encodings
from glide.data.wrappers import Encoded, WithEncodings, caption_inputs
from glide.networks.config import ModelConfig
from glide.networks.frozen_text_config import FrozenTextConfig, Kind
from glide.networks.frozen_text_encoder import FrozenText, PretrainedText
from glide.networks.model import Model
from support.models import CAPTIONS, randomised, tiny_unet
from support.text_encoders import write_encoder


def model_of(folder: Path, kind: Kind) -> Model:
    encoder = load_encoder(kind, write_encoder(folder, kind))
    config = completed(FrozenTextConfig(kind, "a", context=48), encoder)
    model = randomised(Model(ModelConfig(tiny_unet(6), text_encoder=config)), seed=1)
    model.use_encoder(encoder)
    return model


def truncated(kind: Kind) -> AbstractContextManager[object]:
    return pytest.warns(UserWarning, match="longer than 48 tokens") if kind == "clip" else nullcontext()


def encodings_of(model: Model, folder: Path) -> Encodings:
    assert model.config.text_encoder is not None
    return Encodings(folder, model.config.text_encoder)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Captions in each call of an encoder."""
    calls: list[int] = []
    encode = PretrainedText.encode

    def counting(self: PretrainedText, tokens: Any, mask: Any) -> Any:
        calls.append(len(tokens))
        return encode(self, tokens, mask)

    monkeypatch.setattr(PretrainedText, "encode", counting)
    return calls


@pytest.mark.parametrize("kind", ["clip", "bert"])
def test_a_caption_is_encoded_once(kind: Kind, tmp_path: Path, counted: list[int]) -> None:
    model = model_of(tmp_path / kind, kind)
    kept = encodings_of(model, tmp_path / "kept")
    captions = [*CAPTIONS, CAPTIONS[0]]
    assert kept.read(captions) is None
    made = kept.encode(model, captions)
    assert counted == [3]
    for one in (kept, encodings_of(model, tmp_path / "kept")):  # also in another process
        read = one.read(captions)
        assert read is not None and all(torch.equal(read[name], made[name]) for name in made)
    kept.null(model)
    kept.encode(model, [*captions, ""])
    assert counted == [3, 1]
    assert isinstance(model.text, FrozenText)
    batch = model.caption_batch(captions)
    plain = model.text.encode(batch["tokens"], batch["mask"])
    assert made.keys() == plain.keys()
    for name, part in plain.items():
        torch.testing.assert_close(made[name], part)


def test_another_encoder_or_context_has_files_of_its_own(tmp_path: Path) -> None:
    model = model_of(tmp_path / "bert", "bert")
    kept = encodings_of(model, tmp_path / "kept")
    kept.encode(model, CAPTIONS)
    config = model.config.text_encoder
    assert config is not None
    for other in (replace(config, fingerprint="0" * 16), replace(config, context=12)):
        assert Encodings(tmp_path / "kept", other).read(CAPTIONS) is None


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    model = model_of(tmp_path / "bert", "bert")
    kept = encodings_of(model, tmp_path / "kept")
    made = kept.encode(model, CAPTIONS)
    first, second, *_ = sorted((tmp_path / "kept").rglob("*.safetensors"))
    first.write_bytes(first.read_bytes()[:-3])
    second.write_bytes(b"")
    assert kept.read(CAPTIONS) is None
    again = kept.encode(model, CAPTIONS)
    torch.testing.assert_close(again["encoded"], made["encoded"])
    assert kept.read(CAPTIONS) is not None


@pytest.mark.parametrize("kind", ["clip", "bert"])
def test_inputs_with_and_without_them_condition_alike(kind: Kind, tmp_path: Path) -> None:
    model = model_of(tmp_path / kind, kind)
    kept = encodings_of(model, tmp_path / "kept")
    data = open_data("shapes:one", 8, seed=0)
    dropped = torch.tensor([False, True, False, False])
    assert model.tokenizer is not None
    with truncated(kind):
        ids = Encoded(data, model.tokenizer).batch(0, 4)
    plain = model.encode(caption_inputs(model, ids, dropped))
    with_kept = WithEncodings(data, kept, model.tokenizer)
    first = with_kept.batch(0, 4)
    assert "encoded" not in first
    with truncated(kind):
        missing = model.encode(caption_inputs(model, first, dropped, kept))
    second = with_kept.batch(0, 4)
    assert "encoded" in second
    with truncated(kind):  # said by a later run, too
        WithEncodings(data, encodings_of(model, tmp_path / "kept"), model.tokenizer).batch(0, 4)
    read = model.encode(caption_inputs(model, second, dropped, kept))
    assert read.same(missing)
    for name, part in plain.parts().items():
        torch.testing.assert_close(read.parts()[name], part)
    null = model.encode(model.caption_batch([""]))
    torch.testing.assert_close(read.tokens[1:2], null.tokens)  # type: ignore[index]
