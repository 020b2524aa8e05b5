"""Pipelines of diffusers as models, against diffusers' own pipelines, on small random ones that diffusers made."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.checkpoints.load import load_model, read_model_config, save_model
from glide.diffusion.conditioning import Conditioning
from glide.utils.errors import InputError
from support.diffusers_pipelines import BLOCKS, UNET, lms
from toolkit import Pipeline

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")
    from diffusers import (
        DDIMPipeline,
        DDIMScheduler,
        DDPMPipeline,
        DDPMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        UNet2DModel,
    )

pytestmark = pytest.mark.filterwarnings(  # of diffusers' own code
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
SMALL = UNET | BLOCKS
TRAILING = {"timestep_spacing": "trailing"}
STEPS = 10


def saved(folder: Path, scheduler: object, pipeline: type = DDIMPipeline, **changes: object) -> Path:
    """A small pipeline with random weights, as diffusers writes it."""
    torch.manual_seed(0)
    pipeline(UNet2DModel(**{**SMALL, **changes}).eval(), scheduler).save_pretrained(folder)
    scheduler.save_pretrained(folder / "scheduler")  # the pipeline has made one of its own kind of it
    return folder


def change(path: Path, **changes: object) -> None:
    table = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("ddim"), DDIMScheduler(**TRAILING))


def noise(channels: int = 3, n: int = 2, side: int = 8) -> Tensor:
    return torch.randn(n, channels, side, side, generator=torch.Generator().manual_seed(1))


def theirs(network: object, scheduler: object, x: Tensor, labels: Tensor | None = None) -> tuple[Tensor, int]:
    """The last x of diffusers' network and scheduler, and the number of network calls."""
    scheduler.set_timesteps(STEPS)
    if type(scheduler).__name__ in (
        "EulerDiscreteScheduler",
        "LMSDiscreteScheduler",
    ):  # their x is x_t / alpha_t, of the same x_t
        x = x * (scheduler.sigmas.max() ** 2 + 1) ** 0.5
    more = {"use_clipped_model_output": True} if isinstance(scheduler, DDIMScheduler) else {}
    calls = 0
    for t in scheduler.timesteps:
        calls += 1
        with torch.no_grad():
            output = network(scheduler.scale_model_input(x, t), t, class_labels=labels).sample
        x = scheduler.step(output, t, x, **more).prev_sample
    return x, calls


def ours(pipe: Pipeline, x: Tensor, **more: object) -> tuple[Tensor, int]:
    calls = []
    handle = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    more = {"spacing": "trailing", "num_inference_steps": STEPS, "output_type": "pt", **more}
    more["num_images_per_prompt"] = len(x) // (len(more["label"]) if "label" in more else 1)
    result = pipe(latents=x, **more)
    handle.remove()
    return result.tensors, len(calls)


def assert_same(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-4 of the deviation of what is expected."""
    assert expected.std() > 0.01 and bool(torch.isfinite(expected).all())
    assert (found - expected).abs().max() <= 1e-4 * expected.std()


def load(folder: Path) -> Pipeline:
    return Pipeline.from_pretrained(folder, device="cpu", dtype="float32", call_size=2)


BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CASES = {
    "ddim-clipped": ("ddim", DDIMScheduler(**TRAILING)),
    "ddim-range": ("ddim", DDIMScheduler(clip_sample_range=2.0, **TRAILING)),
    "ddim-cosine": ("ddim", DDIMScheduler(beta_schedule="squaredcos_cap_v2", **TRAILING)),
    "ddim-x0": ("ddim", DDIMScheduler(prediction_type="sample", clip_sample=False, **TRAILING)),
    "ddim-v-zero-snr": (
        "ddim",
        DDIMScheduler(
            prediction_type="v_prediction", rescale_betas_zero_snr=True, clip_sample=False, **TRAILING
        ),
    ),
    "ddim-few": ("ddim", DDIMScheduler(num_train_timesteps=50, beta_end=0.1, **TRAILING)),
    "dpmpp-2m": ("dpmpp-2m", DPMSolverMultistepScheduler(**BETAS, **TRAILING)),
    "euler": ("euler", EulerDiscreteScheduler(**BETAS, **TRAILING)),
    "lms": ("lms", lms),  # skipped, and no other, where it cannot be had
}


@pytest.mark.parametrize("name", CASES)
def test_pictures_are_those_of_diffusers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # here the long last steps of few are of first order, there they are not
    monkeypatch.setattr("glide.diffusion.samplers.base.MAX_STEP_GROWTH", float("inf"))
    sampler, scheduler = CASES[name]
    scheduler = scheduler() if name == "lms" else scheduler
    pipe = load(saved(tmp_path, scheduler))
    network = UNet2DModel.from_pretrained(tmp_path / "unet")
    expected, calls = theirs(network, scheduler, noise())
    found, own_calls = ours(pipe, noise(), sampler=sampler)
    assert_same(found, expected)
    assert own_calls == calls == STEPS


def test_the_picture_of_its_own_pipeline(folder: Path) -> None:
    pipe = DDIMPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    expected = pipe(
        2, generator, num_inference_steps=STEPS, use_clipped_model_output=True, output_type="np"
    ).images
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    found, _ = ours(load(folder), x, sampler="ddim")
    pictures = (found / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    assert np.abs(pictures - expected).max() <= 1e-4 * expected.std()


def test_classes(tmp_path: Path) -> None:
    scheduler = DDIMScheduler(**TRAILING)
    pipe = load(saved(tmp_path, scheduler, num_class_embeds=5))
    network = UNet2DModel.from_pretrained(tmp_path / "unet")
    expected, _ = theirs(network, scheduler, noise(), torch.tensor([3, 1]))
    assert pipe.model.config.num_classes == 5
    found, _ = ours(pipe, noise(), sampler="ddim", label=[3, 1], guidance_scale=1.0)
    assert_same(found, expected)
    other, _ = ours(pipe, noise(), sampler="ddim", label=[3, 2], guidance_scale=1.0)
    assert torch.equal(other[0], found[0]) and not torch.allclose(other[1], found[1])


def test_a_learned_variance(tmp_path: Path) -> None:
    scheduler = DDPMScheduler(variance_type="learned_range")
    model = load_model(saved(tmp_path, scheduler, DDPMPipeline, out_channels=6))
    assert model.config.process.variance == "learned" and model.config.unet.out_channels == 6
    pictures = Pipeline(model, dtype="float32")(
        num_inference_steps=3, sampler="ddpm", seed=0, output_type="pt"
    ).images
    assert bool(torch.isfinite(pictures).all())


def test_old_folders_hold_all_in_one(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "model_index.json").write_text((folder / "model_index.json").read_text())
    for file in [*(folder / "unet").iterdir(), *(folder / "scheduler").iterdir()]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert load(tmp_path).fingerprint == load(folder).fingerprint


def test_only_what_is_needed_is_fetched_from_the_hub(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, asked = "0123456789" * 4, []
    place = tmp_path / "snapshots" / commit

    def download(hub_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append(revision)
        for file in folder.rglob("*"):
            name = file.relative_to(folder)
            if str(name) in allow_patterns:
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(file.read_bytes())
                assert len(asked) == 2 or file.suffix == ".json"
        return str(place)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = load_model("someone/ddim@main")
    assert asked == ["main", commit] and model.commit == commit
    assert torch.equal(model.unet.network.conv_in.weight, load_model(folder).unet.network.conv_in.weight)


def test_other_settings_of_the_same_weights_are_another_model(tmp_path: Path, folder: Path) -> None:
    other = saved(tmp_path, DDIMScheduler(beta_schedule="squaredcos_cap_v2"))
    assert load(other).fingerprint != load(folder).fingerprint


def test_its_configuration_is_read_without_weights(tmp_path: Path) -> None:
    saved(tmp_path, DDIMScheduler(**BETAS, prediction_type="v_prediction"))
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    config = read_model_config(tmp_path)
    assert config.unet.image_size == 8 and config.unet.channel_mult == (1, 2)
    assert config.process.prediction == "v" and config.process.betas == (0.00085, 0.012)


def test_perturbed_attention_is_the_identity_map(folder: Path) -> None:
    unet = load(folder).unet
    layers = unet.attention_layers()
    assert list(layers) == ["down.1.0", "up.0.0", "up.0.1", "middle"]
    x, t, cond = noise(), torch.tensor([500, 500]), Conditioning()
    with torch.no_grad():
        plain = unet(x, t, cond)
        found = unet(x, t, cond, identity=("middle",))
        attn, seen = layers["middle"], []
        handle = attn.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
        unet(x, t, cond, identity=("middle",))
        handle.remove()
        h, output = seen[0]
        # without a map, a pixel's result depends on that pixel alone
        normed = attn.group_norm(h.flatten(2))
        by_hand = attn.to_out[0](attn.to_v(normed.mT)).mT.reshape(h.shape) + h
        assert torch.allclose(output, by_hand / attn.rescale_output_factor, atol=1e-6)
        assert not torch.allclose(found, plain) and torch.equal(unet(x, t, cond), plain)


@pytest.mark.parametrize(
    "more", [{"guidances": "pag:2"}, {"dtype": "bfloat16"}, {"image": True}, {"mask": True}]
)
def test_what_is_this_projects_works(more: dict, folder: Path) -> None:
    more = dict(more)
    pipe = Pipeline.from_pretrained(folder, device="cpu", dtype=more.pop("dtype", "float32"))
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2))
    if more.pop("image", False):
        more |= {"image": image, "strength": 0.5}
    mask = torch.zeros(1, 8, 8)
    mask[:, :, 4:] = 1
    if masked := more.pop("mask", False):
        more |= {"image": image, "mask_image": mask}
    result = pipe(seed=3, num_inference_steps=4, output_type="pt", **more)
    again = pipe(seed=3, num_inference_steps=4, output_type="pt", **more)
    assert torch.equal(result.images, again.images) and bool(torch.isfinite(result.images).all())
    if masked:
        assert torch.allclose(result.images[0, :, :, :4], (image[:, :, :4] * 255).round() / 255, atol=1e-6)


def test_unsupported_uses_are_one_sentence(folder: Path, tmp_path: Path) -> None:
    model = load_model(folder)
    with pytest.raises(InputError, match="a model of diffusers to save, expected one of this project"):
        save_model(tmp_path / "copy", model)
    with pytest.raises(InputError, match="a model of diffusers to save"):
        load(folder).save_pretrained(tmp_path / "copy")
    pipe = load(folder)
    with pytest.raises(InputError, match="got features of a network of diffusers"), pipe.features():
        pass
    with pytest.raises(InputError, match="got --compile for a network of diffusers"):
        Pipeline(model, dtype="float32", compiles=True)
    with pytest.raises(InputError, match="guidance for a model with no condition at all"):
        pipe(guidance_scale=3.0)


UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        (
            INDEX,
            {"_class_name": "StableDiffusionXLPipeline"},
            "XLPipeline' of diffusers, expected one of DDPMPipeline",
        ),
        (INDEX, {"_class_name": ["DDPMPipeline"]}, "of diffusers, expected one of DDPMPipeline"),
        (INDEX, {"unet": ["my_code", "UNet2DModel"]}, "expected a UNet2DModel of diffusers"),
        (INDEX, {"unet": None}, "with the unet None, expected a UNet2DModel"),
        (UNET, {"_class_name": "UNet1DModel"}, "got a 'UNet1DModel' as the unet"),
        (UNET, {"time_embedding_type": "fourier"}, "with time_embedding_type 'fourier', expected positional"),
        (UNET, {"sample_size": [8, 16]}, "expected one length: give a model of square pictures"),
        (UNET, {"block_out_channels": [8, 10**9]}, "expected a whole number"),
        (UNET, {"block_out_channels": [8, 32]}, "does not fit its config.json"),
        (UNET, {"down_block_types": ["os.system", "x"]}, "describes no model that can be built"),
        (UNET, {"new_feature": 3}, "new_feature, which the installed diffusers does not know"),
        (
            SCHEDULER,
            {"_class_name": "EDMEulerScheduler"},
            "of a 'EDMEulerScheduler', expected one of DDPM, DDIM",
        ),
        (SCHEDULER, {"trained_betas": [0.1, 0.2]}, "with trained_betas, which makes another process"),
        (SCHEDULER, {"prediction_type": "flow_prediction"}, "expected one of 'epsilon', 'sample'"),
        (SCHEDULER, {"beta_end": 7}, "beta_end 7, expected"),
        (SCHEDULER, {"rescale_betas_zero_snr": True}, "zero_terminal_snr with prediction eps"),
    ],
)
def test_what_does_not_fit_is_one_sentence(file: str, changes: dict, message: str, tmp_path: Path) -> None:
    change(saved(tmp_path, DDIMScheduler()) / file, **changes)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_missing_parts(tmp_path: Path) -> None:
    saved(tmp_path, DDIMScheduler())
    with pytest.raises(InputError, match="of a 'UNet2DModel' of diffusers, which is one part of a model"):
        load_model(tmp_path / "unet")
    (tmp_path / SCHEDULER).unlink()
    with pytest.raises(InputError, match=r"without scheduler/scheduler_config.json"):
        load_model(tmp_path)
    (tmp_path / UNET).unlink()
    with pytest.raises(InputError, match=r"without unet/config.json"):
        load_model(tmp_path)


def test_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    pipe = DDIMPipeline(UNet2DModel(**SMALL), DDIMScheduler())
    pipe.save_pretrained(tmp_path, safe_serialization=False)
    monkeypatch.setattr(torch, "load", lambda *_: pytest.fail("a pickle was opened"))
    with pytest.raises(InputError, match=r"a \.bin file is a pickle, which can run code, and is not read"):
        load_model(tmp_path)


def test_without_diffusers_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "diffusers", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'glide-toolkit\[diffusers\]'"):
        load_model(folder)
