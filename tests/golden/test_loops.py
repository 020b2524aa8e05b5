"""Whole sampling loops against the original's, step by step, on the same noise."""

import json

import pytest
import torch
from safetensors.torch import load_file

from glide.checkpoints.openai import convert as openai
from glide.diffusion.denoiser import Predictor, clamp, project, replace_known
from glide.diffusion.process import respacing
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from guidance.classifier_free import ClassifierFree
from guidance.guided_denoiser import guide
from guidance.likelihood import LogLikelihood
from support.paths import GOLDEN

MANIFEST = json.loads((GOLDEN / "manifest.json").read_text())
LOOPS = [name for name in MANIFEST if name.startswith("loop_") and name != "loop_net"]


def tape(draws):
    """Noise that was drawn before: one entry for each reverse step, the noisiest first."""
    draws = iter(draws)
    return lambda like: next(draws)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
def test_every_step_is_the_originals(name):
    config, golden = MANIFEST[name]["config"], load_file(GOLDEN / f"{name}.safetensors")
    weights = load_file(GOLDEN / f"{config.get('network', name)}.safetensors")
    state = {
        key.removeprefix("state."): value.float()
        for key, value in weights.items()
        if key.startswith("state.")
    }
    model = openai.from_state_dict(state, config["model"])
    assert model.process.alpha_bar[0] > 0.9999  # the cosine schedule's; the linear one starts at 0.9999

    planes = {key: golden[key] for key in ("inpaint_image", "inpaint_mask") if key in golden}
    with torch.no_grad():
        cond = model.condition({"tokens": golden["tokens"], "mask": golden["mask"], **planes})
        null = model.condition({"tokens": golden["null_tokens"], "mask": golden["null_mask"], **planes})

    terms = []
    if config["guidance_scale"] is not None:
        terms.append(ClassifierFree(config["guidance_scale"], null))
    if "target" in golden:
        target, strength = golden["target"], golden["cond_weight"].item()
        terms.append(LogLikelihood(lambda x, t: -0.5 * (x - target).square().flatten(1).sum(1), strength))
    maps = [replace_known(planes["inpaint_image"], planes["inpaint_mask"])] if planes else []
    maps += [clamp] if config["clip_denoised"] else []
    denoise = project(guide(Predictor(model.unet, model.process), cond, terms), *maps)

    process = model.process.respaced(respacing(config["respacing"], 1000))
    sampler = {"ddpm": ancestral, "ddim": ddim}[config["method"]]
    steps = torch.stack(list(sampler(process, denoise, golden["x_T"], tape(golden["noise"]))))
    expected = golden["trajectory"]
    assert steps.shape == expected.shape
    for step, (ours, theirs) in enumerate(zip(steps, expected, strict=True)):
        error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
        assert error < 1e-4, f"step {step} is {error:.1e} off"
