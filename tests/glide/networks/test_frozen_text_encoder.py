"""Frozen text encoders: their outputs are transformers', and only what is on top of them is learned."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glide.checkpoints.text_encoders import completed, load_encoder
from glide.networks.conditioner import Conditioner
from glide.networks.config import ModelConfig, ProcessConfig
from glide.networks.frozen_text_config import FrozenTextConfig, Kind
from glide.networks.frozen_text_encoder import FrozenText, PretrainedText
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from support.models import CAPTIONS, randomised, tiny_unet
from support.text_encoders import WIDTH, write_encoder

TEXTS = [*CAPTIONS, "", "A Red star, unknown words; 3 of them"]
LONG = "a red circle " * 20
KINDS: tuple[Kind, ...] = ("clip", "t5", "bert")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("encoders")
    return {kind: write_encoder(place / kind, kind) for kind in KINDS}


def model_of(encoder: PretrainedText, **changes: Any) -> Model:
    config = completed(replace(FrozenTextConfig(encoder.kind, "a", context=48), **changes), encoder)
    unet = replace(tiny_unet(6), token_attention="cross")
    model = Model(ModelConfig(unet, text_encoder=config, process=ProcessConfig(steps=100)))
    randomised(model, seed=1)
    model.use_encoder(encoder)
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_outputs_are_those_of_transformers(kind: Kind, folders: dict[str, Path]) -> None:
    import transformers as t

    name = {"clip": "CLIPTextModel", "t5": "T5EncoderModel", "bert": "BertModel"}[kind]
    network = getattr(t, name).from_pretrained(folders[kind]).eval()
    theirs = getattr(t, {"clip": "CLIP", "t5": "T5", "bert": "Bert"}[kind] + "TokenizerFast").from_pretrained(
        folders[kind]
    )
    given = theirs(TEXTS, padding="max_length", max_length=48, truncation=True, return_tensors="pt")
    expected = network(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    encoder = load_encoder(kind, folders[kind])
    tokens, mask = encoder.tokenizer(48).encode(TEXTS)
    assert torch.equal(mask, given["attention_mask"].bool())
    assert torch.equal(tokens[mask], given["input_ids"][mask])
    hidden, end = encoder.encode(tokens, mask)
    close(hidden[mask], expected.last_hidden_state[mask])
    assert not hidden[~mask].any()
    assert (end is not None) == (kind == "clip")
    if end is not None:
        close(end, expected.pooler_output)


def close(ours: Tensor, theirs: Tensor) -> None:
    """To 1e-5 of the deviation."""
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.std().item())


@torch.no_grad()
@pytest.mark.parametrize(
    ("kind", "pooled"), [("clip", "end"), ("t5", "mean"), ("bert", "none"), ("bert", "mean")]
)
def test_a_caption_reaches_the_network_as_it_says(kind: Kind, pooled: Any, folders: dict[str, Path]) -> None:
    encoder = load_encoder(kind, folders[kind])
    model = model_of(encoder, pooled=pooled, width=24)
    text = model.text
    assert isinstance(text, FrozenText)
    batch = model.caption_batch(TEXTS)
    cond, known = model.encode(batch), text.encode(batch["tokens"], batch["mask"])
    assert cond.tokens is not None and cond.tokens.shape == (len(TEXTS), 48, 24)
    mask = batch["mask"]
    assert torch.equal(cond.tokens[mask], text.proj(text.norm(known["encoded"]))[mask])
    assert torch.equal(cond.tokens[~mask], text.padding.expand(len(TEXTS), -1, -1)[~mask])
    assert model.encode(known).same(cond)
    if pooled == "none":
        assert cond.vector is None and not hasattr(model, "text_vector")
        return
    own = [known["encoded"][i, : int(n)].mean(dim=0) for i, n in enumerate(mask.sum(dim=1))]
    vectors = known["end"] if pooled == "end" else torch.stack(own)
    assert text.norm_pooled is not None and cond.vector is not None
    torch.testing.assert_close(cond.vector, model.text_vector(text.norm_pooled(vectors)))


def test_nothing_of_the_encoder_is_the_models(folders: dict[str, Path]) -> None:
    encoder = load_encoder("bert", folders["bert"])
    model = model_of(encoder)
    assert {name for name in model.state_dict() if name.startswith("text")} == {
        *("text.norm.weight", "text.norm.bias", "text.proj.weight", "text.proj.bias", "text.padding")
    }
    assert not any(p.requires_grad for p in encoder.network.parameters()) and not encoder.network.training
    model.train()
    assert not encoder.network.training
    assert copy.deepcopy(model).text.encoder is encoder  # type: ignore[union-attr]
    assert load_encoder("bert", folders["bert"]) is encoder  # models share one in memory


def test_the_null_caption_is_the_encoding_of_the_empty_one(folders: dict[str, Path]) -> None:
    model = model_of(load_encoder("bert", folders["bert"]))
    conditioner = Conditioner(model)
    assert conditioner.has_null
    assert conditioner.null().same(conditioner.of([ImageRequest(0, "")]))
    assert not conditioner.null().same(conditioner.negative("a red circle"))
    assert model.caption_batch([""])["tokens"][0, :2].tolist() == [2, 3]  # [CLS] [SEP]


def test_a_long_caption_is_truncated_and_said(folders: dict[str, Path]) -> None:
    tokenizer = load_encoder("clip", folders["clip"]).tokenizer(48)
    with pytest.warns(UserWarning, match="longer than 48 tokens: cut off 'le a red circle"):
        tokens, mask = tokenizer.encode([LONG])
    assert mask.all() and tokens[0, -1] == tokenizer.n_vocab - 1  # the end stays
    assert not tokenizer.fits(LONG) and tokenizer.fits("a red circle")


@torch.no_grad()
def test_an_encoder_runs_in_float32_under_autocast_and_takes_no_gradient(folders: dict[str, Path]) -> None:
    encoder = load_encoder("bert", folders["bert"])
    tokens, mask = encoder.tokenizer(48).encode(TEXTS)
    plain, _ = encoder.encode(tokens, mask)
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder.encode(tokens, mask)[0], plain)
        model = model_of(encoder)
        model.encode(model.caption_batch(TEXTS)).tokens.sum().backward()  # type: ignore[union-attr,no-untyped-call]
    assert model.text.proj.weight.grad is not None  # type: ignore[union-attr]
    with torch.inference_mode():
        assert not encoder.encode(tokens, mask)[0].is_inference()
    assert encoder.width == WIDTH
