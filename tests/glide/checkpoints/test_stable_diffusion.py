"""Stable Diffusion of diffusers as a model, against diffusers' own pipeline, on a small random one."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.checkpoints.load import load_model, read_model_config
from glide.diffusion.process import Process
from glide.utils.errors import InputError
from support.diffusers_pipelines import BETAS, CROSS, UNET, VAE, lms
from support.text_encoders import write_encoder
from toolkit import Pipeline

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DPMSolverMultistepScheduler,
        EulerDiscreteScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizerFast

pytestmark = pytest.mark.filterwarnings(  # of diffusers' own code
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
SCHEDULERS = {
    "ddim": DDIMScheduler(clip_sample=False, **BETAS),
    "ddim-v": DDIMScheduler(
        clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True, **BETAS
    ),
    "dpmpp-2m": DPMSolverMultistepScheduler(**BETAS),
    "dpmpp-2m-v": DPMSolverMultistepScheduler(
        prediction_type="v_prediction", rescale_betas_zero_snr=True, **BETAS
    ),
    "euler": EulerDiscreteScheduler(**BETAS),
    "euler-v": EulerDiscreteScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, **BETAS),
    "lms": lms(),
}
STEPS, CAPTION = 10, "a red circle"


def saved(folder: Path, scheduler: object) -> Path:
    encoder = write_encoder(folder / "clip", "clip")
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=AutoencoderKL(**VAE),
        text_encoder=CLIPTextModel.from_pretrained(encoder),
        tokenizer=CLIPTokenizerFast.from_pretrained(encoder, model_max_length=48),
        unet=UNet2DConditionModel(**UNET, **CROSS),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "sd")
    return folder / "sd"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("sd"), SCHEDULERS["ddim"])


def load(folder: Path, dtype: str = "float32") -> Pipeline:
    return Pipeline.from_pretrained(folder, device="cpu", dtype=dtype, call_size=1)


def close(found: Tensor | np.ndarray, expected: Tensor | np.ndarray) -> None:
    """To 1e-4 of the deviation."""
    assert expected.std() > 0.01 and np.isfinite(np.asarray(expected)).all()
    assert abs(found - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_pictures_are_those_of_diffusers(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # here the long last steps of few are of first order, there they are not
    monkeypatch.setattr("glide.diffusion.samplers.base.MAX_STEP_GROWTH", float("inf"))
    reference = StableDiffusionPipeline.from_pretrained(
        folder, scheduler=SCHEDULERS[name], safety_checker=None
    )
    reference.set_progress_bar_config(disable=True)
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "scheduler").unlink()
    SCHEDULERS[name].save_pretrained(tmp_path / "scheduler")
    pipe = load(tmp_path)
    if name in ("dpmpp-2m-v", "euler-v"):  # these have so much signal there, in place of none
        alpha_bar = pipe.model.process.alpha_bar.copy()
        alpha_bar[-1] = 2.0**-24
        monkeypatch.setitem(pipe.model.__dict__, "process", Process(alpha_bar, np.arange(1000)))

    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    reference.scheduler.set_timesteps(STEPS)
    begin = x
    if name.startswith(("euler", "lms")):  # its x is x_t / alpha_t, of the same x_t
        sigma = reference.scheduler.sigmas.max()
        begin = x * (sigma**2 + 1) ** 0.5 / reference.scheduler.init_noise_sigma
    calls: dict[str, int] = {"theirs": 0, "ours": 0}

    def counted(who: str) -> object:
        return lambda *_: calls.__setitem__(who, calls[who] + 1)

    reference.unet.register_forward_hook(counted("theirs"))
    pipe.unet.register_forward_hook(counted("ours"))
    settings = {"num_inference_steps": STEPS, "guidance_scale": 7.5, "negative_prompt": "blue"}
    expected = reference(CAPTION, latents=begin, output_type="np", **settings).images
    more = {"sampler": name.removesuffix("-v"), "spacing": "trailing"}
    found = pipe(CAPTION, latents=x, output_type="np", **settings, **more).images
    close(found, expected)
    assert calls == {"theirs": STEPS, "ours": STEPS}


def test_the_configuration_is_read(folder: Path) -> None:
    config = read_model_config(folder)
    assert (config.picture_size, config.picture_channels, config.unet.in_channels) == (16, 3, 4)
    assert config.reads_captions and config.token_width == 16
    assert config.process.schedule == "quadratic" and config.process.betas == (0.00085, 0.012)


def test_tokens_are_those_of_diffusers_for_a_long_caption(folder: Path) -> None:
    model = load_model(folder)
    theirs = CLIPTokenizerFast.from_pretrained(folder / "tokenizer")
    captions = ["", CAPTION, "red " * 60]
    expected = theirs(captions, padding="max_length", max_length=48, truncation=True, return_tensors="pt")
    assert torch.equal(model.caption_batch(captions)["tokens"], expected["input_ids"])


def test_perturbed_attention(folder: Path) -> None:
    pipe = load(folder)
    assert list(pipe.unet.attention_layers()) == ["down.0.0", "up.1.0", "up.1.1", "middle"]
    plain, guided = (
        pipe(CAPTION, seed=0, num_inference_steps=2, guidances=names, output_type="latent").images
        for names in ((), "pag:3")
    )
    assert torch.isfinite(guided).all() and not torch.allclose(plain, guided)


@pytest.mark.parametrize("kind", ["bfloat16", "image", "mask"])
def test_what_is_this_projects_works(kind: str, folder: Path) -> None:
    pipe = load(folder, "bfloat16" if kind == "bfloat16" else "float32")
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(1, 16, 16)
    mask[:, :, 8:] = 1
    more = {"bfloat16": {}, "image": {"image": image, "strength": 0.5}}
    more["mask"] = {"image": image, "mask_image": mask}
    pictures = pipe(CAPTION, seed=3, num_inference_steps=3, output_type="pt", **more[kind]).images
    assert pictures.shape == (1, 3, 16, 16) and torch.isfinite(pictures).all()
    if kind == "mask":  # exact outside of the mask
        assert torch.equal((pictures[0, :, :, :8] * 255).round(), (image[:, :, :8] * 255).round())


def test_other_encoders_make_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    for part in folder.iterdir():
        (tmp_path / part.name).symlink_to(part)
    (tmp_path / "vae").unlink()
    torch.manual_seed(5)
    AutoencoderKL(**VAE).save_pretrained(tmp_path / "vae")
    assert load(tmp_path).fingerprint != load(folder).fingerprint


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("unet", {"in_channels": 7}, "got a unet of 7 input channels for latents of 4"),
        ("unet", {"cross_attention_dim": 32}, "for tokens 32 wide and 0 classes"),
        ("unet", {"addition_embed_type": "text_time"}, "addition_embed_type 'text_time', expected none"),
        ("vae", {"_class_name": "VQModel"}, "of a 'VQModel', expected an AutoencoderKL"),
        ("text_encoder", {"model_type": "t5"}, "of the model_type 't5', expected a clip"),
    ],
)
def test_parts_that_do_not_fit_are_one_sentence(
    part: str, changes: dict, message: str, folder: Path, tmp_path: Path
) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(folder)
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(file)
    path = tmp_path / part / "config.json"
    table = {**json.loads(path.read_text()), **changes}
    path.unlink()
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_a_missing_part_is_one_sentence(folder: Path, tmp_path: Path) -> None:
    for part in folder.iterdir():
        if part.name != "tokenizer":
            (tmp_path / part.name).symlink_to(part)
    with pytest.raises(InputError, match=r"got no vocabulary in .*tokenizer, expected merges\.txt"):
        load_model(tmp_path)
