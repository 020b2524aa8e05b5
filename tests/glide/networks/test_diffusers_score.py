"""Score networks of diffusers as networks that predict eps, against diffusers' own pipelines and solvers."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.process import Process
from glide.diffusion.samplers.ddpm_ddim import ancestral
from glide.networks.image_request import ImageRequest
from support.diffusers_pipelines import QUIET, change, diffusers, lms_class, write_pipeline
from support.gaussian import last
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

pytestmark = QUIET
STEPS = 10
X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(1))  # x_t of the last timestep
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of as many training timesteps as steps, so that diffusers' pipeline visits the same ones."""
    place = write_pipeline(tmp_path_factory.mktemp("score"), "score")
    change(place / SCHEDULER, num_train_timesteps=STEPS, correct_steps=0, sampling_eps=1e-6)
    return place


def load(folder: Path, dtype: str = "float32") -> Pipeline:
    return Pipeline.from_pretrained(folder, device="cpu", dtype=dtype, call_size=1)


def reference(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, first: Tensor) -> Any:
    """diffusers' pipeline, which begins with `first` and adds no noise on the way."""
    pipeline, scheduler = (getattr(diffusers, f"{kind}{part}") for part in ("Pipeline", "Scheduler"))
    network = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    pipe = pipeline(network, scheduler.from_pretrained(folder / "scheduler"))
    pipe.set_progress_bar_config(disable=True)
    zeros = lambda shape, *_, **__: torch.zeros(shape)
    monkeypatch.setattr(import_module(type(pipe.scheduler).__module__), "randn_tensor", zeros)
    unit = first / pipe.scheduler.init_noise_sigma
    monkeypatch.setattr(import_module(type(pipe).__module__), "randn_tensor", lambda *_, **__: unit)
    return pipe


def ratio(process: Process) -> float:
    """Deviation of the last timestep's noise, beside pictures in [-1, 1]."""
    return float(np.sqrt(1 / process.alpha_bar[-1] - 1))


def in_pixels(x: Tensor) -> np.ndarray:
    return (x[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    assert expected.std() > 0.01 and np.isfinite(expected).all()
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


def test_the_reverse_process_is_that_of_its_pipeline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = load(folder)
    loop = pipe.loop([ImageRequest(0)], SamplingConfig(respacing=str(STEPS), guidance="none"))
    assert ratio(loop.process) == pytest.approx(2 * 50.0)  # its pictures are in [0, 1]
    y = (X * (1 + ratio(loop.process) ** 2) ** 0.5 + 1) / 2
    theirs = reference("ScoreSdeVe", folder, monkeypatch, y)
    expected = theirs(num_inference_steps=STEPS, output_type="np").images[0]
    found = last(ancestral(loop.process, loop.denoise, X, torch.zeros_like, "fixed_small"))
    assert_same(in_pixels(found), expected)


def test_heun_is_that_of_the_karras_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glide.diffusion.samplers.base.MAX_STEP_GROWTH", float("inf"))
    folder = write_pipeline(tmp_path, "karras")
    pipe = load(folder)
    # its loop takes the squares of sigmas as deviations
    change(folder / SCHEDULER, sigma_min=0.02**0.5, sigma_max=10.0, s_churn=0.0)
    first = X * (1 + ratio(pipe.model.process) ** 2) ** 0.5
    theirs = reference("KarrasVe", folder, monkeypatch, first)
    expected = theirs(num_inference_steps=STEPS, output_type="np").images[0]
    found = pipe(latents=X, sampler="heun", num_inference_steps=STEPS, spacing="uniform", output_type="pt")
    assert_same(in_pixels(found.tensors), expected)


@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "euler", "lms"])
def test_solvers_are_those_of_diffusers(solver: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glide.diffusion.samplers.base.MAX_STEP_GROWTH", float("inf"))
    pipe = load(folder)
    process = pipe.model.process
    more = {"clip_sample": False} if solver == "ddim" else {}
    make = {
        "ddim": diffusers.DDIMScheduler,
        "dpmpp-2m": diffusers.DPMSolverMultistepScheduler,
        "euler": diffusers.EulerDiscreteScheduler,
    }
    scheduler = (lms_class() if solver == "lms" else make[solver])(
        num_train_timesteps=STEPS, trained_betas=process.betas, timestep_spacing="trailing", **more
    )
    scheduler.set_timesteps(STEPS)
    network = diffusers.UNet2DModel.from_pretrained(folder / "unet")
    sigmas = np.geomspace(0.01, 50.0, STEPS)  # beside pictures in [0, 1]
    x, calls = X, []
    if solver in ("euler", "lms"):
        x = x * (1 + ratio(process) ** 2) ** 0.5
    for t in scheduler.timesteps:
        sigma = float(sigmas[int(t)])
        y = scheduler.scale_model_input(x, t) * (1 + (2 * sigma) ** 2) ** 0.5 / 2 + 0.5
        with torch.no_grad():
            eps = -sigma * network(y, torch.tensor([sigma])).sample
        x = scheduler.step(eps, t, x).prev_sample
    pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    found = pipe(latents=X, sampler=solver, spacing="trailing", num_inference_steps=STEPS, output_type="pt")
    assert_same(found.tensors.numpy(), x.numpy())
    assert len(calls) == STEPS


def test_perturbed_attention(folder: Path) -> None:
    pipe = load(folder)
    assert list(pipe.unet.attention_layers()) == ["down.1.0", "up.0.0", "middle"]
    plain, guided = (
        pipe(seed=0, num_inference_steps=3, guidances=names, output_type="pt").tensors
        for names in ((), "pag:3")
    )
    assert torch.isfinite(guided).all() and not torch.allclose(plain, guided)


def test_bfloat16_keeps_the_frequencies_of_the_noise(folder: Path) -> None:
    exact, rounded = load(folder), load(folder, "bfloat16")
    frequencies = rounded.unet.network.time_proj.weight
    assert torch.equal(frequencies, exact.unet.network.time_proj.weight)
    assert rounded.unet.dtype == torch.bfloat16
    t = torch.tensor([3])
    with torch.no_grad():
        expected, found = (pipe.unet(X, t, Conditioning()) for pipe in (exact, rounded))
    assert (found - expected).abs().mean() < 0.05 * expected.std()
