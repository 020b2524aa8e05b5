"""The published noisy classifiers: names, options, the originals' numbers.

Measured against the original (max error / std, 1 thread, fp32): logits 8e-7, gradient 1.0e-5.
"""

import gzip
import json
from pathlib import Path

import convert as script  # scripts/convert.py
import pytest
import torch
from torch import Tensor

from glide.networks.presets import PRESETS
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS
from guidance.classifier.guide import check_classifier, classifier_guidance
from guidance.classifier.load import load_classifier
from guidance.classifier.openai import (
    HEAD,
    PUBLISHED,
    classifier_config,
    from_state_dict,
    load,
    mapping,
    options_for,
)
from support.classifier_config import TINY
from support.openai_nets import GOLDEN, golden, same_weights
from support.sample_script import Capture
from support.scripts import call


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.detach() - expected).abs().max() / expected.std())


def published() -> dict[str, dict]:
    table = json.loads(gzip.decompress((GOLDEN / "published_checkpoints.json.gz").read_bytes()))
    return {key.rpartition("/")[2] + ".pt": value for key, value in table.items() if "classifier" in key}


@pytest.mark.slow
@pytest.mark.parametrize("name", published())
def test_each_published_tensor_maps_exactly_once(name: str) -> None:
    options, shapes = published()[name]["options"], published()[name]["tensors"]
    sources = mapping(options)
    assert len(sources) == len(shapes)
    assert {source.name: list(source.shape) for source in sources.values()} == shapes

    with torch.device("meta"):
        state = {key: torch.empty(shape, dtype=torch.float16) for key, shape in shapes.items()}
    model = from_state_dict(state, options)
    assert {key for key, _ in model.named_parameters()} == set(sources) and not list(model.buffers())
    for key, parameter in model.named_parameters():
        assert parameter.numel() == state[sources[key].name].numel() and parameter.dtype == torch.float32


@pytest.mark.parametrize("name", published())
def test_the_file_name_tells_the_options(name: str) -> None:
    options = published()[name]["options"]
    assert {key: options_for(f"folder/{name}")[key] for key in options} == options
    config = classifier_config(options_for(name))
    assert config == CLASSIFIERS[f"adm-{options['image_size']}"]
    check_classifier(
        config, PRESETS[f"adm-{options['image_size']}"]
    )  # fits the model that it was published for
    assert set(PUBLISHED) == set(published())


def test_golden_logits_and_gradient() -> None:
    options, state, batch = golden("adm_classifier")
    model = from_state_dict(state, options)
    logits = model(batch["x"], batch["timesteps"])
    assert logits.dtype == torch.float32 and relative(logits, batch["logits"]) <= 1e-5
    rows = []
    for x, t, y in zip(batch["x"], batch["timesteps"].tolist(), batch["y"].tolist(), strict=True):
        rows.append(classifier_guidance(model, y, 1.0).gradient(x[None], t))
    assert relative(torch.cat(rows), batch["gradient"]) <= 3e-5


def test_a_published_file_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options, state, batch = golden("adm_classifier")
    monkeypatch.setitem(PUBLISHED, "64x64_classifier.pt", options)
    path = tmp_path / "64x64_classifier.pt"
    torch.save(state, path)
    assert same_weights(load_classifier(path), from_state_dict(state, options))
    path.rename(tmp_path / "mine.pt")
    with pytest.warns(UserWarning, match=r"mine\.pt has the tensors of 64x64_classifier\.pt, so"):
        assert same_weights(load_classifier(tmp_path / "mine.pt"), from_state_dict(state, options))
    other = state | {name: torch.cat([state[name], state[name][:2]]) for name in HEAD}
    torch.save(other, tmp_path / "fine.pt")
    with pytest.warns(UserWarning, match=r"has the tensors of 64x64_classifier\.pt with 13 classes"):
        found = load_classifier(tmp_path / "fine.pt")
    assert same_weights(found, from_state_dict(other, options | {"out_channels": 13}))
    monkeypatch.delitem(PUBLISHED, "64x64_classifier.pt")
    with pytest.raises(InputError, match=r"mine\.pt is not one of the published classifiers"):
        load_classifier(tmp_path / "mine.pt")
    assert (
        relative(load(tmp_path / "mine.pt", options)(batch["x"], batch["timesteps"]), batch["logits"]) < 1e-5
    )
    with pytest.raises(InputError, match=r"mine\.pt: the state dict is not that.*missing"):
        load(tmp_path / "mine.pt", options | {"pool": "adaptive"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"classifier_wdith": 3}, "unknown option 'classifier_wdith'"),
        ({"classifier_pool": "max"}, "classifier_pool is 'max'"),
        (TINY | {"pool": "max"}, "classifier_pool is 'max'"),
        ({"cls": "UNetModel"}, "no classifier of the original"),
        ({"classifier_width": 100}, "attention heads"),
    ],
)
def test_options_that_make_no_classifier(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        classifier_config(options)


@pytest.mark.slow
def test_the_script_converts_a_classifier(tmp_path: Path, capsys: Capture) -> None:
    options, state, _ = golden("adm_classifier")
    torch.save(state, tmp_path / "mine.pt")
    flags = ["--out", tmp_path / "folder", "--options", json.dumps(options)]
    assert call(script, tmp_path / "mine.pt", *flags) == 0
    assert "16 pixels, 11 classes" in capsys.readouterr().out
    assert same_weights(load_classifier(tmp_path / "folder"), from_state_dict(state, options))
