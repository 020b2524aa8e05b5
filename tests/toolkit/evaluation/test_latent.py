"""Measurements of a model that draws latents: decoded pictures are judged, losses are those of latents."""

import dataclasses
from pathlib import Path

import pytest
import torch

from glide.checkpoints.load import save_model
from glide.networks.config import ProcessConfig
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer, held_out_scenes, render
from glide.utils.errors import InputError
from guidance.clip.load import save_clip
from guidance.options import Options
from support.latent import FACTOR, SIZE, latent_clip, latent_model
from support.models import randomised
from toolkit.commands.evaluate import evaluate
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.evaluate_inpainting import evaluate_inpainting
from toolkit.commands.evaluate_inpainting_flags import EvaluateInpainting
from toolkit.commands.guidance_sweep import sweep
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.commands.nll import nll
from toolkit.commands.nll_flags import Nll
from toolkit.commands.solver_sweep import solver_sweep
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.evaluation.attribute_binding import binding
from toolkit.evaluation.oracle_run import drawn
from toolkit.evaluation.prompts import held_out
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig


@pytest.fixture(scope="module")
def model() -> Model:
    """It reads whatever the built-in scenes say."""
    small = latent_model(process=ProcessConfig(steps=100, prediction="x0"))
    tokenizer = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    assert small.config.text is not None
    text = dataclasses.replace(small.config.text, vocab=tokenizer.n_vocab, context=24)
    found = randomised(Model(dataclasses.replace(small.config, text=text), tokenizer), 0)
    found.first_stage = small.first_stage
    return found


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("latent")
    save_model(out / "model", model, {"data": "shapes"})
    save_clip(out / "clip", latent_clip(model))
    return out


def test_binding_compares_latents(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that always says the same errs by the distance of latents from it."""
    scenes = held_out_scenes(5, ("one",), 3)
    monkeypatch.setattr(Model, "forward", lambda self, x, t, batch: torch.zeros(len(x), 10, *x.shape[2:]))
    pixels = torch.from_numpy(render(scenes, SIZE)).permute(0, 3, 1, 2)
    latents = model.first_stage.encode(pixels.float() / 127.5 - 1)
    assert latents.shape == (5, 5, SIZE // FACTOR, SIZE // FACTOR)
    (whole,) = [one for one in binding(model, scenes, [50]) if one.fact == "caption"]
    assert whole.right == pytest.approx(float((latents**2).mean()), rel=1e-5) and whole.wrong == whole.right


def test_what_is_judged_is_decoded(model: Model) -> None:
    asked = held_out(3, ("one",), 0)
    x = drawn(Pipeline(model, call_size=2), SamplingConfig("ddim", "2"), asked, 2, 0)
    assert x.shape == (3, 3, SIZE, SIZE)


def test_commands(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name, few = str(folder / "model"), {"captions": 3, "steps": 2, "call_size": 2}
    evaluate(Evaluate(name, scales=(2.0,), out=tmp_path / "one", **few))  # type: ignore[arg-type]
    assert (tmp_path / "one" / "evaluate.md").exists()
    answers = evaluate_inpainting(EvaluateInpainting(name, scenes=2, steps=2, out=tmp_path / "two"))
    assert [answer.pixels.shape for answer in answers] == [(SIZE, SIZE, 3)] * 2
    clip = Options(clip=str(folder / "clip"))
    points = sweep(
        Sweep(
            name,
            guidance=("cfg:2+clip:1",),
            guiding=clip,
            best_of=2,
            open_captions=1,
            pictures=2,
            no_plot=True,
            out=tmp_path / "three",
            **few,  # type: ignore[arg-type]
        )
    )
    assert len(points) == 2
    lines = SolverSweep(
        name, captions=2, solver=("unipc",), calls=(2,), steps=3, no_plot=True, out=tmp_path / "four"
    )
    assert [point.sampler for point in solver_sweep(lines)] == ["ddim", "unipc"]


def test_bits_of_latents_are_no_pictures(folder: Path) -> None:
    with pytest.raises(InputError, match="draws latents, whose bits are no picture's"):
        nll(Nll(str(folder / "model")))
