"""Frozen image encoders: against transformers' own outputs, found by name, and no other than that of training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from glide.checkpoints import image_encoders
from glide.checkpoints.image_encoders import find_image_encoder, image_encoder_named, load_image_encoder
from glide.networks import image_encoder_config
from glide.networks.image_encoder import LEVELS
from glide.networks.image_encoder_config import ImageEncoderConfig, read_name
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from support.image_encoders import write_image_encoder

X = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def normalised(x: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return ((x + 1) / 2 - mean) / std


@pytest.mark.parametrize("kind", ["clip", "clip_vision_model"])
def test_a_clip_gives_the_image_embeds_of_transformers(kind: str, tmp_path: Path) -> None:
    import transformers

    folder = write_image_encoder(tmp_path / "clip", kind)
    config, encoder = image_encoder_named(str(folder))
    pixels = normalised(X, CLIP_MEAN, CLIP_STD)
    if kind == "clip":
        whole = transformers.CLIPModel.from_pretrained(folder).eval()
        expected = whole.get_image_features(pixel_values=pixels).pooler_output
    else:
        tower = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()
        expected = tower(pixel_values=pixels).image_embeds
    assert (config.kind, config.source, config.width, encoder.width) == ("clip", "clip", 12, 12)
    torch.testing.assert_close(encoder.encode(X), expected, rtol=1e-5, atol=1e-5)


def test_dinov2_gives_its_class_token_at_the_size_of_its_pictures(tmp_path: Path) -> None:
    import transformers

    folder = write_image_encoder(tmp_path / "dino", "dinov2")
    encoder = load_image_encoder("dinov2", str(folder))
    network = transformers.Dinov2Model.from_pretrained(folder).eval()
    pixels = normalised(X, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    output = network(pixel_values=pixels, output_hidden_states=True)
    torch.testing.assert_close(encoder.encode(X), output.pooler_output, rtol=1e-5, atol=1e-5)
    maps = encoder.features(X)
    assert len(maps) == LEVELS and maps[0].shape == (3, 12, 4, 4)
    last = output.hidden_states[-1][:, 1:]  # without the class token
    torch.testing.assert_close(maps[-1][0, :, 1, 2], last[0, 4 + 2], rtol=1e-5, atol=1e-5)


def test_pictures_are_resized_with_antialias(tmp_path: Path) -> None:
    _, encoder = image_encoder_named(f"clip:{write_image_encoder(tmp_path / 'clip', 'clip')}")
    large = torch.rand(2, 3, 40, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    small = F.interpolate(large, (16, 16), mode="bicubic", antialias=True)
    assert torch.equal(encoder.encode(large), encoder.encode(small))
    with pytest.raises(InputError, match="got pictures of 1 channels for an image encoder of 3"):
        encoder.encode(X[:, :1])


def test_features_have_a_gradient_and_embeddings_have_none(tmp_path: Path) -> None:
    _, encoder = image_encoder_named(f"clip:{write_image_encoder(tmp_path / 'clip', 'clip')}")
    x = X.clone().requires_grad_()
    assert not encoder.encode(x).requires_grad
    sum(h.square().mean() for h in encoder.features(x)).backward()  # type: ignore[union-attr]
    assert x.grad is not None and x.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    assert all(weight.grad is None for weight in encoder.network.parameters())


def test_an_encoder_is_found_again_and_no_other_one(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path / "clip", "clip_vision_model")
    config, encoder = image_encoder_named(str(folder))
    assert checked(config, "encoder") == config and config.path == str(folder)
    assert find_image_encoder(config) is encoder  # in use, so it is shared
    shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"got no folder .*clip, expected the image encoder clip:clip there"):
        find_image_encoder(config)
    write_image_encoder(folder, "clip_vision_model", seed=1)
    with pytest.raises(InputError, match=r"with the fingerprint \w{16}, expected \w{16} \(clip:clip\)"):
        find_image_encoder(config)
    shutil.rmtree(folder)
    write_image_encoder(folder, "clip_vision_model", width=8)
    with pytest.raises(InputError, match="clip:clip 8 wide, expected clip:clip with 12, which the model was"):
        find_image_encoder(config)


def test_the_pictures_of_an_encoder_are_part_of_its_fingerprint(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path / "dino", "dinov2")
    before = load_image_encoder("dinov2", str(folder)).fingerprint
    table = json.loads((folder / "preprocessor_config.json").read_text())
    for changed in ({"crop_size": {"height": 24, "width": 24}}, {"image_mean": [0.1, 0.1, 0.1]}):
        (folder / "preprocessor_config.json").write_text(json.dumps(table | changed))
        assert load_image_encoder("dinov2", str(folder)).fingerprint != before
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": 0.5}))
    with pytest.raises(InputError, match=r"got image_mean 0.5 in .* expected a list of numbers"):
        load_image_encoder("dinov2", str(folder))


def test_names_that_are_none_are_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"got the image encoder 'vgg', expected KIND:PLACE or a folder"):
        read_name("vgg")
    with pytest.raises(InputError, match=r"'vgg:a/b', expected the kind clip or dinov2.*: choose one"):
        read_name("vgg:a/b")
    with pytest.raises(
        InputError, match=r"'clip:nowhere', expected clip: with a hub id \(org/name\) or a fo"
    ):
        read_name("clip:nowhere")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(
        InputError, match=r"of the kind 'bert', expected one of classifier, clip, .*: give another"
    ):
        read_name(str(tmp_path))
    with pytest.raises(InputError, match=r"of the model_type 'bert', expected a dinov2: give its kind"):
        load_image_encoder("dinov2", str(tmp_path))
    monkeypatch.setattr(image_encoder_config, "names_of", lambda group, built_in: [*built_in])
    monkeypatch.setattr(image_encoders, "plug_ins", lambda group: {})
    with pytest.raises(
        InputError, match=r"expected the kind clip or dinov2: install the package .* adds noisy-"
    ):
        read_name("noisy-clip:shapes-clip")
    with pytest.raises(InputError, match=r"expected an installed package that reads noisy-clip: install it"):
        find_image_encoder(ImageEncoderConfig("noisy-clip", "shapes-clip", fingerprint="0", width=128))


def test_files_that_are_unfit_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = write_image_encoder(tmp_path / "clip", "clip_vision_model")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(InputError, match=r"the image encoder in .* cannot be loaded .* fetch it again"):
        load_image_encoder("clip", str(folder))
    weights.unlink()
    with pytest.raises(InputError, match=r"got the image encoder in .* without model.safetensors, expected"):
        load_image_encoder("clip", str(folder))
    weights.write_bytes(whole)
    table = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**table, "hidden_size": 10**9}))
    with pytest.raises(InputError, match=r"got hidden_size in .* 1000000000"):
        load_image_encoder("clip", str(folder))


def test_the_noisy_clip_comes_in_by_its_entry_point() -> None:
    config, encoder = image_encoder_named("noisy-clip:shapes-clip")
    assert config == replace(config, kind="noisy-clip", source="shapes-clip", path="", width=128)
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    clip: Any = encoder.network
    assert torch.equal(encoder.encode(x), clip.encode_image(x, torch.zeros(2, dtype=torch.int64)))
    assert find_image_encoder(config).fingerprint == encoder.fingerprint
    with pytest.raises(InputError, match="with the fingerprint"):
        find_image_encoder(replace(config, fingerprint="0" * 16))
