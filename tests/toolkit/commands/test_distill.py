"""distill.py: students of every kind from flags to folder, resumed exactly, and settings that do not fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import distill as script
import pytest
import torch
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, read_config, save_model
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.student_config import StudentConfig
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer
from support import scripts
from support.latent import latent_model
from support.models import randomised
from toolkit import Pipeline
from upsampler.presets import UPSAMPLERS

QUICK: tuple[object, ...] = (
    "--batch-size",
    2,
    "--log-every",
    1,
    "--sample-every",
    1000,
    "--validation-batches",
    0,
)
QUICK += ("--dtype", "float32", "--ema", 0.9, "--lr", 1e-3, "--device", "cpu")


def captioned(config: ModelConfig) -> Model:
    """A model that reads the captions of the built-in scenes."""
    assert config.text is not None
    tokenizer = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    text = replace(config.text, vocab=tokenizer.n_vocab, context=24)
    return randomised(Model(replace(config, text=text), tokenizer), seed=4)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "model"
    save_model(folder, captioned(PRESETS["tiny"]))
    return folder


@pytest.fixture(scope="module")
def guided(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("guided") / "run"
    assert call("--teacher", teacher, "--steps", 2, "--out", out, "--strengths", 1, 5) == 0
    return out


def call(*argv: object) -> int:
    return scripts.call(script, *argv, *QUICK)


def student(folder: Path) -> StudentConfig:
    found = load_model(folder).config.student
    assert found is not None
    return found


def test_a_student_of_guidance_is_a_model_folder_that_says_where_it_comes_from(
    teacher: Path, guided: Path
) -> None:
    assert student(guided) == StudentConfig("guidance", (1.0, 5.0))
    record = read_config(guided)["training"]
    assert record["student"]["teacher"] == teacher.name and record["student"]["objective"] == "guidance"
    assert record["log"]["step"] == 2
    before, after = (load_file(folder / "model.safetensors") for folder in (teacher, guided))
    assert set(after) - set(before) == {"strength_in.weight", "strength_in.bias", "strength_out.weight"}
    assert after["strength_out.weight"].any()  # it has begun to learn
    recipe = Pipeline.from_pretrained(guided)("a red circle", guidance_scale=2.0).recipes[0]
    assert (recipe["sampler"], recipe["steps"], recipe["scale"]) == ("dpmpp-2m", 20, 2.0)


def test_fewer_steps_from_a_student_of_guidance(guided: Path, tmp_path: Path) -> None:
    four, two = tmp_path / "four", tmp_path / "two"
    steps = ("--objective", "halving", "--steps", 2)
    assert call("--teacher", guided, *steps, "--student-steps", 4, "--out", four) == 0
    assert student(four) == StudentConfig("halving", (1.0, 5.0), 4, "ddim", "trailing")
    assert call("--teacher", four, *steps, "--student-steps", 2, "--out", two) == 0
    assert student(two) == StudentConfig("halving", (1.0, 5.0), 2, "ddim", "trailing")
    assert Pipeline.from_pretrained(two)("a red circle").recipes[0]["steps"] == 2


def test_consistency_with_and_without_guidance(teacher: Path, guided: Path, tmp_path: Path) -> None:
    tune = ("--objective", "consistency", "--steps", 3, "--stages", 3, "--student-steps", 2)
    assert call("--teacher", guided, *tune, "--out", tmp_path / "guided") == 0
    assert student(tmp_path / "guided") == StudentConfig(
        "consistency", (1.0, 5.0), 2, "consistency", "trailing"
    )
    assert call("--teacher", teacher, *tune, "--unguided", "--out", tmp_path / "plain") == 0
    assert student(tmp_path / "plain").strengths == ()
    names = set(load_file(tmp_path / "plain" / "model.safetensors"))
    assert names == set(load_file(teacher / "model.safetensors"))


@pytest.mark.parametrize("objective", ["guidance", "consistency"])
def test_a_run_that_is_resumed_is_the_run_that_was_never_stopped(
    teacher: Path, tmp_path: Path, objective: str
) -> None:
    flags = ("--teacher", teacher, "--objective", objective, "--stages", 4, "--save-every", 2, "--steps", 4)
    assert call(*flags, "--out", tmp_path / "whole", "--keep", 9) == 0
    assert call(*flags, "--out", tmp_path / "stopped", "--keep", 9) == 0
    last = tmp_path / "stopped/checkpoints/step-0000004"
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    assert call(*flags, "--out", tmp_path / "stopped", "--resume") == 0
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_model_of_latents(tmp_path: Path) -> None:
    teacher, out = latent_model(), tmp_path / "run"
    model = captioned(teacher.config)
    model.first_stage = teacher.first_stage
    save_model(tmp_path / "latent", model)
    assert call("--teacher", tmp_path / "latent", "--steps", 2, "--out", out) == 0
    pipe = Pipeline.from_pretrained(out)
    assert pipe.model.config.student is not None and pipe.model.config.first_stage is not None
    assert pipe("a red circle", guidance_scale=2.0, num_inference_steps=2).tensors.shape == (1, 3, 32, 32)


def test_an_upsampler_in_fewer_steps(tmp_path: Path) -> None:
    out, folder = tmp_path / "run", tmp_path / "upsampler"
    save_model(folder, captioned(UPSAMPLERS["tiny-upsampler"]))
    flags = ("--unguided", "--objective", "halving", "--student-steps", 2, "--steps", 2, "--watched", 1)
    assert call("--upsampler", "--teacher", folder, *flags, "--out", out) == 0
    assert student(out) == StudentConfig("halving", (), 2, "ddim", "trailing")
    config = load_model(out).config
    assert config.low_res and config.process.variance == "fixed_small"


REFUSED: tuple[tuple[tuple[object, ...], str], ...] = (
    (("--strengths", 2, 8), "expected two, the first at most 1"),
    (("--strengths", 1), "expected two, the first at most 1"),
    (("--student-spacing", "odd"), "got --student-spacing odd"),
    (("--unguided",), "leave --unguided out"),
    (("--substeps", 1), "got --substeps 1"),
    (("--preset", "tiny"), "--preset"),
    (("--teacher", "nobody"), "nobody"),
)


@pytest.mark.parametrize(("flags", "said"), REFUSED)
def test_settings_that_do_not_fit(
    teacher: Path, tmp_path: Path, flags: tuple[object, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = call("--teacher", teacher, *flags, "--steps", 2, "--out", tmp_path / "run")
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and said in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_teachers_that_do_not_fit(guided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--teacher", guided, "--steps", 2, "--out", tmp_path / "run") == 2
    assert "needs one call already" in capsys.readouterr().err
    config: ModelConfig = replace(PRESETS["tiny"], text=None)
    save_model(tmp_path / "plain", randomised(Model(config), seed=1))
    assert call("--teacher", tmp_path / "plain", "--steps", 2, "--out", tmp_path / "run") == 2
    assert "has no null condition" in capsys.readouterr().err


def test_flags_of_the_run_stay(guided: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags: list[Any] = [
        "--teacher",
        guided,
        "--objective",
        "halving",
        "--steps",
        2,
        "--out",
        tmp_path / "run",
    ]
    assert call(*flags) == 0
    assert call(*flags, "--student-steps", 8, "--resume") == 2
    assert "--student-steps 8: this run has 4" in capsys.readouterr().err
