"""Export to diffusers: its own pipeline loads the folder, its network gives the same numbers, and the same picture."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.checkpoints.diffusers_export import export_pipeline, obstacle
from glide.checkpoints.load import load_model, save_model
from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig, ProcessConfig, UNetConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.utils.errors import InputError
from support.models import randomised, tiny_unet
from toolkit import Pipeline
from upsampler.presets import UPSAMPLERS

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    diffusers = pytest.importorskip("diffusers")
    from diffusers import DDIMPipeline, DDPMPipeline

pytestmark = pytest.mark.filterwarnings(  # of diffusers' own code
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
FIXED = ProcessConfig(steps=100, variance="fixed_small", schedule="linear")
ADM = dataclasses.replace(
    tiny_unet(6), image_size=16, channel_mult=(1, 2, 2), attention=(2,), num_res_blocks=2, head_channels=16
)
DDPM = UNetConfig(
    image_size=8,
    out_channels=3,
    channels=32,
    channel_mult=(1, 1, 3),
    num_res_blocks=1,
    attention=(1, 4),
    head_channels=0,
    scale_shift=False,
    resblock_updown=False,
    dropout=0.1,
)
CASES = {
    "adm": ModelConfig(ADM, process=ProcessConfig(steps=100)),
    "adm-classes": ModelConfig(ADM, num_classes=5, null_class=True, process=ProcessConfig(steps=100)),
    "ddpm": ModelConfig(DDPM, process=FIXED),
    "added-embedding": ModelConfig(
        dataclasses.replace(ADM, scale_shift=False, out_channels=3), process=FIXED
    ),
    "grey": ModelConfig(dataclasses.replace(DDPM, in_channels=1, out_channels=1), process=FIXED),
}


def close(found: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.01 and bool(torch.isfinite(expected).all())
    assert (found - expected).abs().max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("name", CASES)
def test_the_network_of_diffusers_gives_the_same_numbers(name: str, tmp_path: Path) -> None:
    config = CASES[name]
    model = randomised(Model(config), seed=3)
    export_pipeline(model, tmp_path / "out")
    network = DDPMPipeline.from_pretrained(tmp_path / "out").unet
    u = config.unet
    x = torch.randn(3, u.in_channels, u.image_size, u.image_size, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0, 17, 99])
    y = torch.tensor([0, 4, 5]) if config.num_classes else None
    cond = Conditioning() if y is None else model.encode({"y": y})
    with torch.no_grad():
        close(network(x, t, class_labels=y).sample, model.unet(x, t, cond))
        again = load_model(tmp_path / "out")
        cond = Conditioning() if y is None else again.encode({"y": y})
        close(
            again.unet(x, t, cond),
            model.unet(x, t, model.encode({"y": y}) if y is not None else Conditioning()),
        )


PROCESSES = {
    "linear": FIXED,
    "other ends": dataclasses.replace(FIXED, betas=(0.001, 0.05)),
    "cosine": dataclasses.replace(FIXED, schedule="squaredcos_cap_v2"),
    "quadratic": dataclasses.replace(FIXED, schedule="quadratic"),
    "shifted": dataclasses.replace(FIXED, schedule="squaredcos_cap_v2", shift=2.0, prediction="v"),
    "sigmoid": dataclasses.replace(FIXED, schedule="sigmoid", prediction="x0", variance="fixed_large"),
    "zero snr": dataclasses.replace(FIXED, zero_terminal_snr=True, prediction="v"),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_the_pipeline_of_diffusers_draws_the_same_picture(name: str, tmp_path: Path) -> None:
    model = randomised(Model(ModelConfig(DDPM, process=PROCESSES[name])), seed=3)
    export_pipeline(model, tmp_path / "out")
    pipe = DDIMPipeline.from_pretrained(tmp_path / "out")
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    theirs = pipe(
        2, generator, num_inference_steps=10, use_clipped_model_output=True, output_type="np"
    ).images
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    ours = Pipeline(model, dtype="float32", call_size=2)
    drawn = ours(
        latents=noise,
        sampler="ddim",
        spacing="trailing",
        num_inference_steps=10,
        num_images_per_prompt=2,
        output_type="np",
    ).images
    assert theirs.std() > 0.01
    assert np.abs(np.asarray(drawn) - theirs).max() <= 1e-4 * theirs.std()


def test_its_process_is_read_back(tmp_path: Path) -> None:
    model = randomised(Model(CASES["adm"]), seed=3)
    export_pipeline(model, tmp_path / "out")
    found = load_model(tmp_path / "out").config
    assert found.process == model.config.process and found.unet.image_size == 16


IN_THE_WAY = {
    "shapes-64": "the text encoder",
    "glide-base": "the text encoder",
    "annotated-28": "the blocks standardized",
    "adm-512": "a first level of 0.5 times",
}


@pytest.mark.parametrize("name", IN_THE_WAY)
def test_a_preset_that_it_cannot_hold_says_why(name: str) -> None:
    found = obstacle(PRESETS[name])
    assert found is not None and found.startswith(IN_THE_WAY[name])


def test_published_presets_can_be_held() -> None:
    for name in ("adm-64", "adm-256", "adm-256-uncond", "ddpm-32", "small-32"):
        assert obstacle(PRESETS[name]) is None, name
    assert obstacle(UPSAMPLERS["shapes-upsampler"]) is not None


def test_what_it_cannot_hold_is_said_in_a_sentence(text_model: Model, tmp_path: Path) -> None:
    narrow = dataclasses.replace(DDPM, channels=24, channel_mult=(1, 2, 3))
    heads = dataclasses.replace(DDPM, num_heads=2)
    cases = {
        "the text encoder, whose tokens are in its attention": text_model,
        "norms of 8 and 16 groups": Model(ModelConfig(narrow, process=FIXED)),
        "attention heads of several widths": Model(ModelConfig(heads, process=FIXED)),
    }
    for said, model in cases.items():
        with pytest.raises(InputError, match=f"got a model with {said}"):
            export_pipeline(model, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    model = randomised(Model(CASES["ddpm"]), seed=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(InputError, match=r"exists already: give another name$"):
            export_pipeline(model, tmp_path / "mine", overwrite)
    export_pipeline(model, tmp_path / "out")
    with pytest.raises(InputError, match="or --overwrite"):
        export_pipeline(model, tmp_path / "out")
    export_pipeline(model, tmp_path / "out", overwrite=True)
    with pytest.raises(InputError, match="it is a pipeline of diffusers already"):
        export_pipeline(load_model(tmp_path / "out"), tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import export as script  # scripts/export.py

    from support.scripts import call

    save_model(tmp_path / "run", randomised(Model(CASES["adm-classes"]), seed=3))
    assert call(script, tmp_path / "run", "--to", "diffusers", tmp_path / "out") == 0
    assert "call its unet with class_labels" in capsys.readouterr().out
    pipe = Pipeline.from_pretrained(tmp_path / "out", device="cpu", dtype="float32")
    assert pipe(label=[3], num_inference_steps=2, seed=0).images[0].size == (16, 16)
    assert call(script, "shapes", "--to", "keras", tmp_path / "no") == 2
    assert "got --to keras, expected diffusers" in capsys.readouterr().err
    assert call(script, "shapes", "--to", "diffusers", tmp_path / "no") == 2
    assert "got a model with the text encoder" in capsys.readouterr().err
