"""Frozen text encoders in files: found by name, held by a model's folder, and no other than that of training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, save_model
from glide.checkpoints.text_encoders import (
    FOLDER,
    completed,
    copy_encoder,
    find_encoder,
    load_encoder,
    save_encoder,
)
from glide.networks.config import ModelConfig, ProcessConfig
from glide.networks.frozen_text_config import FrozenTextConfig, read_name
from glide.networks.model import Model
from glide.utils.errors import InputError
from support.models import CAPTIONS, randomised, tiny_unet
from support.text_encoders import write_encoder


def saved(folder: Path, encoder: Path, embedded: bool = False) -> Model:
    """A model with a random BERT, saved in a folder."""
    asked = FrozenTextConfig("bert", encoder.name, str(encoder), context=12, embedded=embedded)
    found = find_encoder(asked)
    config = ModelConfig(tiny_unet(6), text_encoder=completed(asked, found), process=ProcessConfig(steps=100))
    model = randomised(Model(config), seed=1)
    model.use_encoder(found)
    save_model(folder, model)
    return model


def test_a_model_finds_its_encoder_again(tmp_path: Path) -> None:
    model = saved(tmp_path / "model", write_encoder(tmp_path / "bert", "bert"))
    again = load_model(tmp_path / "model")
    assert again.config == model.config and again.encode(again.caption_batch(CAPTIONS)).same(
        model.encode(model.caption_batch(CAPTIONS))
    )
    assert not any("encoder" in name for name in load_file(tmp_path / "model/model.safetensors"))
    shutil.rmtree(tmp_path / "bert")
    with pytest.raises(
        InputError, match=r"got no folder .*bert, expected the text encoder bert there: put it back"
    ):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("kind", ["clip", "t5", "bert"])
def test_an_encoder_that_was_saved_again_is_the_same(kind: str, tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / kind, kind)
    asked = FrozenTextConfig(read_name(str(folder))[0], kind, str(folder), context=48, embedded=True)
    encoder = find_encoder(asked)
    config = ModelConfig(tiny_unet(6), text_encoder=completed(asked, encoder))
    model = randomised(Model(config), seed=1)
    model.use_encoder(encoder)
    save_model(tmp_path / "model", model)
    shutil.rmtree(folder)
    again = load_model(tmp_path / "model")
    assert again.text.encoder is not encoder  # type: ignore[union-attr]
    assert again.encode(again.caption_batch(CAPTIONS)).same(model.encode(model.caption_batch(CAPTIONS)))
    files = sorted(file.name for file in (tmp_path / "model" / FOLDER).iterdir())
    assert "model.safetensors" in files and "config.json" in files
    assert str(tmp_path) not in (tmp_path / "model/config.json").read_text()  # no place of this machine
    (tmp_path / "other").mkdir()
    copy_encoder(tmp_path / "model", tmp_path / "other")
    assert load_encoder(asked.kind, tmp_path / "other" / FOLDER).fingerprint == encoder.fingerprint
    before = (tmp_path / "model" / FOLDER / "config.json").stat().st_mtime_ns
    save_model(tmp_path / "model", again)  # the encoder stays as it is
    assert (tmp_path / "model" / FOLDER / "config.json").stat().st_mtime_ns == before
    other = load_encoder(asked.kind, write_encoder(tmp_path / "another", kind, seed=1))
    save_encoder(other, tmp_path / "model" / FOLDER)
    with pytest.raises(InputError, match="which this model was trained with: give that one"):
        load_model(tmp_path / "model")
    save_model(tmp_path / "model", again)  # in place of another
    assert load_model(tmp_path / "model").config == again.config
    shutil.rmtree(tmp_path / "model" / FOLDER)
    with pytest.raises(InputError, match=r"got no folder .*text_encoder, expected the text encoder"):
        load_model(tmp_path / "model")


def test_another_encoder_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model", write_encoder(tmp_path / "bert", "bert"))
    shutil.rmtree(tmp_path / "bert")
    write_encoder(tmp_path / "bert", "bert", seed=1)
    with pytest.raises(
        InputError, match=r"got the text encoder \w{16}, expected \w{16} \(bert\), which this model"
    ):
        load_model(tmp_path / "model")
    shutil.rmtree(tmp_path / "bert")
    write_encoder(tmp_path / "bert", "bert", width=32)
    with pytest.raises(
        InputError, match="got a text encoder 32 wide, expected bert with 16, which this model"
    ):
        load_model(tmp_path / "model")
    shutil.rmtree(tmp_path / "bert")
    write_encoder(tmp_path / "bert", "t5")
    with pytest.raises(InputError, match="of the model_type 't5', expected a bert: give its kind"):
        load_model(tmp_path / "model")


def test_files_that_are_unfit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "bert", "bert")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"cannot be loaded .* fetch it again"):
        load_encoder("bert", folder)
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"without model.safetensors, expected it, as other formats \(.bin\) can run"
    ):
        load_encoder("bert", folder)
    (folder / "model.safetensors").write_bytes(whole)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(InputError, match=r"lacks the weights encoder.layer.2"):
        load_encoder("bert", folder)
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    with pytest.raises(InputError, match=r"num_hidden_layers in .* expected a whole number from 1 to 1000"):
        load_encoder("bert", folder)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").unlink()
    with pytest.raises(InputError, match="there is no tokenizer in"):
        load_encoder("bert", folder)
    with pytest.raises(
        InputError, match=r"got text_encoder.context 49, expected at most 48, which bert takes"
    ):
        shutil.rmtree(folder)
        write_encoder(folder, "bert")
        completed(FrozenTextConfig("bert", "bert", context=49), load_encoder("bert", folder))


def test_a_vocabulary_of_sentencepiece_names_what_reads_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_encoder(tmp_path / "t5", "t5")
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    monkeypatch.setattr("glide.checkpoints.text_encoders.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"without the packages sentencepiece and .* 'glide-toolkit\[t5\]'"):
        load_encoder("t5", folder)


def test_the_hub_is_asked_for_the_revision_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "c" * 40
    snapshot = write_encoder(tmp_path / "snapshots" / commit, "bert")
    asked: list[tuple[str, object]] = []

    def download(name: str, revision: object, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any("bin" in pattern for pattern in allow_patterns)
        if len(asked) > 2:
            raise OSError("no connection")
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    config = FrozenTextConfig(*read_name("bert:org/name@main"))
    done = completed(config, find_encoder(config))
    assert done.revision == commit and done.source == "org/name@main"
    find_encoder(done)
    assert asked == [("org/name", "main"), ("org/name", commit)]
    with pytest.raises(InputError, match=r"the hub did not give it .no connection.: check the name"):
        find_encoder(replace(done, revision="d" * 40))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clip", "expected clip:ORG/NAME, t5:ORG/NAME, bert:ORG/NAME or a folder"),
        ("bert:nowhere", "with a hub id .org/name. or a folder: check the name"),
        ("gpt:org/name", "expected clip:ORG/NAME"),
    ],
)
def test_names_that_are_none(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_name(name)


def test_a_folder_of_another_kind_is_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(
        InputError, match="of the model_type 'gpt2', expected one of clip, clip_text_model, t5, bert"
    ):
        read_name(str(tmp_path))
