"""Autoencoders of diffusers as first stages, against diffusers itself."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from glide.checkpoints import diffusers_autoencoders as ours
from glide.checkpoints.diffusers_autoencoders import (
    WEIGHTS,
    DiffusersAutoencoder,
    load_any_autoencoder,
    save_diffusers_autoencoder,
)
from glide.checkpoints.first_stages import HELD, first_stage_named
from glide.checkpoints.load import load_model, save_model
from glide.networks.config import FirstStageConfig
from glide.networks.tiles import in_exact_tiles
from glide.training.model_config import first_stage_settings
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from tests.support.latent import latent_model

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")

KL = {
    "block_out_channels": (8, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "latent_channels": 5,
    "norm_num_groups": 4,
    "scaling_factor": 0.7,
    "shift_factor": 0.2,
}
"""As of Stable Diffusion, but narrow: attention in the middle, a Gaussian for each latent; four times smaller."""
TINY = {
    "encoder_block_out_channels": (8, 8, 8),
    "decoder_block_out_channels": (8, 8, 8),
    "num_encoder_blocks": (1, 1, 2),
    "num_decoder_blocks": (2, 1, 1),
    "latent_channels": 5,
    "scaling_factor": 1.3,
}


def theirs(kind: str, **changes: object) -> object:
    """One of diffusers, with random weights."""
    torch.manual_seed(0)
    model = getattr(diffusers, kind)(**{**(KL if kind == "AutoencoderKL" else TINY), **changes})
    return model.eval().requires_grad_(False)


def saved(folder: Path, kind: str = "AutoencoderKL", **changes: object) -> Path:
    theirs(kind, **changes).save_pretrained(folder)
    return folder


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def pictures(height: int = 32, width: int = 24, channels: int = 3) -> Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("kl"))


def assert_same(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to a share of the deviation of what is expected."""
    assert found.shape == expected.shape and found.dtype == torch.float32
    assert (found - expected).abs().max() <= tolerance * expected.std()


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_latents_and_pictures_are_those_of_diffusers(kind: str, tmp_path: Path) -> None:
    saved(tmp_path, kind)
    model, reference = load_any_autoencoder(tmp_path), getattr(diffusers, kind).from_pretrained(tmp_path)
    assert isinstance(model, DiffusersAutoencoder)
    assert (model.factor, model.latent_channels, model.picture_channels) == (4, 5, 3)
    scale, shift = reference.config.scaling_factor, reference.config.shift_factor
    with torch.no_grad():
        for x in pictures().split(1):  # random weights show by which batch a convolution was rounded
            coded = reference.encode(x)
            raw = coded.latent_dist.mean if kind == "AutoencoderKL" else coded.latents
            latents = (raw - shift) * scale
            assert_same(model.encode(x), latents)
            assert_same(model.decode(latents), reference.decode(latents / scale + shift).sample)


def test_means_and_deviations_of_channels(tmp_path: Path) -> None:
    mean, std = [0.1, 0.2, 0.3, 0.4, 0.5], [1.0, 2.0, 3.0, 4.0, 5.0]
    plain = load_any_autoencoder(saved(tmp_path, shift_factor=None, scaling_factor=1.0))
    raw = plain.encode(pictures())
    change_config(tmp_path, latents_mean=mean, latents_std=std, scaling_factor=0.5)
    model = load_any_autoencoder(tmp_path)
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    assert_same(model.encode(pictures()), (raw - shift) * 0.5 / scale)
    # there and back the latents are rounded, which the decoder magnifies
    assert_same(model.decode((raw - shift) * 0.5 / scale), plain.decode(raw), tolerance=1e-4)


def test_a_size_that_is_no_multiple_is_padded_and_each_picture_is_by_itself(folder: Path) -> None:
    model, x = load_any_autoencoder(folder), pictures(30, 21)
    latents = model.encode(x)
    assert latents.shape == (2, 5, 8, 6)
    assert torch.equal(latents[1:], model.encode(x[1:]))
    assert torch.equal(model.decode(latents)[1:], model.decode(latents[1:]))
    assert_same(latents, model.encode(torch.nn.functional.pad(x, (0, 3, 0, 2), mode="replicate")))


def test_a_gradient_passes_through_the_decoder(folder: Path) -> None:
    latents = torch.zeros(1, 5, 4, 4, requires_grad=True)
    load_any_autoencoder(folder).decode(latents).sum().backward()
    assert latents.grad is not None and latents.grad.abs().max() > 0


def test_large_pictures_are_tiled_as_diffusers_does(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "TILE", 32)
    model, reference = load_any_autoencoder(folder), diffusers.AutoencoderKL.from_pretrained(folder)
    x = pictures(72, 40)[:1]
    with torch.no_grad():
        whole = (reference.encode(x).latent_dist.mean - 0.2) * 0.7
        reference.tile_sample_min_size, reference.tile_latent_min_size = 32, 8
        reference.enable_tiling()
        latents = (reference.encode(x).latent_dist.mean - 0.2) * 0.7
        assert_same(model.encode(x), latents)
        assert_same(model.decode(latents), reference.decode(latents / 0.7 + 0.2).sample)
    assert not torch.allclose(latents, whole)


@pytest.mark.parametrize(("levels", "side"), [(3, 512), (4, 1024), (5, 1024)])
def test_a_tile_has_a_bounded_number_of_pixels_and_latents(levels: int, side: int, tmp_path: Path) -> None:
    changes = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    network = load_any_autoencoder(saved(tmp_path, block_out_channels=(8,) * levels, **changes)).network
    factor = 2 ** (levels - 1)
    assert (network.tile_sample_min_size, network.tile_latent_min_size) == (side, side // factor)


def test_tiles_of_a_tiny_one_have_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_any_autoencoder(saved(tmp_path, "AutoencoderTiny"))
    x = pictures(160, 96)[:1]
    with torch.no_grad():
        latents, decoded = model.encode(x), model.decode(model.encode(x))
        monkeypatch.setattr(ours, "in_exact_tiles", lambda *arguments: in_exact_tiles(*arguments, tile=32))
        assert_same(model.encode(x), latents)
        assert_same(model.decode(latents), decoded)


def test_a_pipeline_of_diffusers_has_its_autoencoder_in_vae(tmp_path: Path, folder: Path) -> None:
    saved(tmp_path / "vae")
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert torch.equal(
        load_any_autoencoder(tmp_path).encode(pictures()), load_any_autoencoder(folder).encode(pictures())
    )


def test_weights_of_older_names(tmp_path: Path, folder: Path) -> None:
    saved(tmp_path)
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = load_file(tmp_path / WEIGHTS)
    for new, old in names.items():
        state = {name.replace(f".0.{new}.", f".0.{old}."): tensor for name, tensor in state.items()}
    assert any(".query." in name for name in state) and not any(".to_q." in name for name in state)
    save_file(state, tmp_path / WEIGHTS)
    assert torch.equal(
        load_any_autoencoder(tmp_path).encode(pictures()), load_any_autoencoder(folder).encode(pictures())
    )


@pytest.mark.parametrize("kind", ["AutoencoderKL", "AutoencoderTiny"])
def test_a_saved_one_is_read_again_here_and_by_diffusers(kind: str, tmp_path: Path) -> None:
    model = load_any_autoencoder(saved(tmp_path / "a", kind))
    save_diffusers_autoencoder(tmp_path / "b", model)
    again = load_any_autoencoder(tmp_path / "b")
    assert again.config == model.config
    assert torch.equal(again.encode(pictures()), model.encode(pictures()))
    reference = getattr(diffusers, kind).from_pretrained(tmp_path / "b")
    for name, tensor in reference.state_dict().items():
        assert torch.equal(tensor, model.network.state_dict()[name])
    assert reference.config.scaling_factor == model.config.scaling_factor


def test_a_latent_model_holds_it(tmp_path: Path) -> None:
    stage = first_stage_named(str(saved(tmp_path / "vae")))
    assert stage.config == FirstStageConfig("", stage.config.fingerprint, 4, 3)
    model = latent_model(first_stage=stage.config)
    model.first_stage = stage
    save_model(tmp_path / "model", model)
    assert sorted(path.name for path in (tmp_path / "model" / HELD).iterdir()) == ["config.json", WEIGHTS]
    again = load_model(tmp_path / "model")
    assert again.first_stage.config == stage.config
    assert torch.equal(again.first_stage.encode(pictures()), stage.encode(pictures()))
    change_config(tmp_path / "model" / HELD, scaling_factor=0.5)
    with pytest.raises(InputError, match=r"other weights .* than the model was trained with"):
        load_model(tmp_path / "model")
    save_model(tmp_path / "model", latent_model())  # one of this project takes its place
    assert load_model(tmp_path / "model").first_stage.config.channels == 3


def test_a_training_takes_it(folder: Path, tmp_path: Path) -> None:
    settings = first_stage_settings(TrainBase(out=tmp_path, first_stage=str(folder)))
    assert settings["unet.in_channels"].value == 5 and settings["first_stage.factor"].value == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "a 'UNet2DConditionModel' of diffusers, expected one of"),
        ({"_class_name": ["AutoencoderKL"]}, "of diffusers, expected one of"),
        ({"out_channels": 1}, "pictures of 3 channels that become 1, expected as many"),
        ({"block_out_channels": [8, 16]}, "got 2 widths, 3 and 3 blocks"),
        ({"block_out_channels": [8, 16, 10**9]}, "block_out_channels.2. 1000000000, expected a whole number"),
        ({"norm_num_groups": 3}, "describes no model that can be built"),
        ({"latent_channels": 4}, "does not fit its config.json"),
        ({"scaling_factor": 0}, "scaling_factor 0, expected"),
        ({"latents_mean": [0.0]}, "expected one for each of 5 latent channels"),
        ({"latents_std": [0.0] * 5}, "a deviation of latents of 0 or below"),
        ({"mid_block_add_attention": "no"}, "expected true or false"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    change_config(saved(tmp_path), **changes)
    with pytest.raises(InputError, match=message):
        load_any_autoencoder(tmp_path)


def test_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs("AutoencoderKL").save_pretrained(tmp_path, safe_serialization=False)
    assert (tmp_path / "diffusion_pytorch_model.bin").is_file()
    monkeypatch.setattr(torch, "load", lambda *_: pytest.fail("a pickle was opened"))
    with pytest.raises(InputError, match=r"a \.bin file is a pickle, which can run code, and is not read"):
        load_any_autoencoder(tmp_path)


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="is damaged or cut short"):
        load_any_autoencoder(tmp_path)


def test_other_channels_are_refused(folder: Path) -> None:
    model = load_any_autoencoder(folder)
    with pytest.raises(InputError, match="got pictures of 1 channels"):
        model.encode(pictures(channels=1))
    with pytest.raises(InputError, match="got latents of 3 channels"):
        model.decode(pictures())


def test_without_diffusers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'glide-toolkit\[diffusers\]'"):
        load_any_autoencoder(folder)


def test_a_hub_that_is_not_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match="there is no folder 'nobody/no-such-vae', and the hub did not give it"
    ):
        load_any_autoencoder("nobody/no-such-vae")
