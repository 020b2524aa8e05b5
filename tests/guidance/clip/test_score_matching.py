"""A guide's gradient, learned from a diffusion model: what it should be, how far a guide is from it, that it learns."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from glide.checkpoints.load import save_model
from glide.diffusion.denoiser import Predictor
from glide.diffusion.process import gather
from glide.networks.config import ProcessConfig
from glide.networks.model import Model
from glide.training.config import OptimConfig, TrainConfig
from glide.training.row_rng import RowRng
from glide.utils.errors import InputError
from guidance.clip.contrastive import Contrastive, caption_rows
from guidance.clip.load import clip_from
from guidance.clip.network import NoisyClip
from guidance.clip.score_matching import LEAST_ALPHA, Teacher, gradient_terms
from guidance.clip.train import train_clip
from guidance.clip.train_flags import TrainClip
from support.models import randomised

PROCESS = ProcessConfig(steps=100).build()
CPU = torch.device("cpu")
WORDS = ["a red circle", "a blue square above a green ring", "", "three yellow stars"]


def settings(out: Path, model: Path, train: dict[str, Any] | None = None, **changes: Any) -> TrainClip:
    config = TrainConfig(
        steps=4,
        batch_size=4,
        optim=OptimConfig(lr=1e-3),
        ema=(0.9,),
        dtype="float32",
        log_every=2,
        save_every=2,
    )
    defaults: dict[str, Any] = {
        "init": str(model),
        "like": str(model),
        "gradient_weight": 1.0,
        "data": "shapes:one",
    }
    return TrainClip(
        out,
        held_out_pairs=8,
        levels=2,
        train=dataclasses.replace(config, **(train or {})),
        **(defaults | changes),
    )


def mixture(x_t: Tensor, t: Tensor, mean: Tensor, deviation: float = 0.5) -> tuple[Tensor, Tensor]:
    """Two Gaussians around mean and -mean, equally likely: log p(first | x_t) [N], and by how much E[x0 | x_t] changes
    with the knowledge that it is the first [N,C,H,W]."""
    alpha_bar = gather(PROCESS.alpha_bar, t, x_t)
    alpha, total = alpha_bar.sqrt(), alpha_bar * deviation**2 + 1 - alpha_bar
    log_prob = F.logsigmoid((2 * alpha / total * mean * x_t).flatten(1).sum(dim=1))
    behind = [m + alpha * deviation**2 / total * (x_t - alpha * m) for m in (mean, -mean)]
    first = log_prob.exp().reshape(-1, 1, 1, 1)
    return log_prob, behind[0] - (first * behind[0] + (1 - first) * behind[1])


def noised(n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_t, mean = (torch.randn(k, 3, 8, 8, generator=generator, dtype=torch.float64) for k in (n, 1))
    return x_t.requires_grad_(), torch.linspace(0, 70, n).long(), 0.05 * mean


def test_bayes_rule_has_no_error() -> None:
    """Of a mixture of Gaussians the classifier and both predictions are known: the gradient is what the shift says."""
    x_t, t, mean = noised()
    log_prob, wanted = mixture(x_t, t, mean)
    terms = gradient_terms(log_prob, x_t, t, PROCESS, wanted.detach())
    scale = wanted.detach().square().mean().item()
    assert scale > 1e-6 and terms["gradient_error"].max() < 1e-12 * scale
    torch.testing.assert_close(terms["cosine"], torch.ones(5, dtype=torch.float64))


def test_the_error_is_that_of_v() -> None:
    """A gradient twice too large errs by the shift itself, over sigma; where next to nothing is seen it counts less."""
    x_t, _, mean = noised()
    t = torch.tensor([0, 20, 50, 80, 99])
    log_prob, wanted = mixture(x_t, t, mean)
    terms = gradient_terms(2 * log_prob, x_t, t, PROCESS, wanted.detach())
    alpha_bar = torch.from_numpy(PROCESS.alpha_bar)[t]
    expected = wanted.square().flatten(1).mean(dim=1) / (1 - alpha_bar)
    seen = alpha_bar.sqrt() / alpha_bar.sqrt().clamp(min=LEAST_ALPHA)
    assert seen[0] == 1.0 and seen[-1] < 1.0
    torch.testing.assert_close(terms["gradient_error"], expected * seen**2)
    opposite = gradient_terms(-mixture(x_t, t, mean)[0], x_t, t, PROCESS, wanted.detach())
    torch.testing.assert_close(opposite["cosine"], -torch.ones(5, dtype=torch.float64))


@pytest.mark.parametrize("inpaint", [False, True])
def test_the_shift_is_the_difference_of_two_predictions(
    text_model: Model, tmp_path: Path, inpaint: bool
) -> None:
    config = dataclasses.replace(text_model.config, inpaint=inpaint)
    model = randomised(Model(config, text_model.tokenizer), seed=4)
    save_model(tmp_path / "base", model)
    x_t = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    shift = Teacher(str(tmp_path / "base"), CPU).shift(x_t, torch.full((4,), 30), WORDS)
    nothing = model.nothing_known(4)
    conds = [model.condition(model.caption_batch(said) | nothing) for said in (WORDS, [""] * 4)]
    with torch.no_grad():
        main, null = Predictor(model.unet, model.process, model.config.process.prediction)(x_t, 30, conds)
    torch.testing.assert_close(shift, main.x0 - null.x0, atol=1e-5, rtol=1e-4)
    assert shift[2].abs().max() < 1e-5 < shift[0].abs().max(), "nothing said, nothing changed"


def test_half_of_the_captions_are_wrong_ones() -> None:
    rows = caption_rows(RowRng(0, range(400)), 3)
    wrong = [(i, row - 400) for i, row in enumerate(rows) if row != i]
    assert 160 < len(wrong) < 240 and all(row // 3 == i for i, row in wrong)
    assert {row % 3 for _, row in wrong} == {0, 1, 2}
    assert caption_rows(RowRng(0, range(5)), 0) == [0, 1, 2, 3, 4]
    assert caption_rows(RowRng(0, range(200)), 3)[:9] == [row if row < 9 else row - 200 for row in rows[:9]]


def batch(n: int, captions: Sequence[str]) -> dict[str, Any]:
    image = torch.randn(n, 3, 8, 8, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)
    return {"image": image, "caption": [captions[i % len(captions)] for i in range(n)]}


def clip_like(folder: Path) -> NoisyClip:
    torch.manual_seed(0)
    return clip_from(str(folder), 16).train()


@pytest.mark.slow
def test_a_clip_learns_its_gradient(text_folder: Path) -> None:
    """With the gradient's loss beside it the error falls; without, it does not."""
    teacher, t = Teacher(str(text_folder), CPU), torch.linspace(5, 60, 8).long()
    found = {}
    for weight in (0.0, 30.0):
        clip = clip_like(text_folder)
        task, optimizer = Contrastive(teacher, weight), torch.optim.Adam(clip.parameters(), lr=3e-3)
        errors = []
        for _ in range(40):
            terms = task(clip, batch(8, WORDS[:2]), t, RowRng(0, range(8)))
            optimizer.zero_grad()
            terms["loss"].mean().backward()
            optimizer.step()
            errors.append((terms["gradient_error"].mean().item(), terms["cosine"].mean().item()))
        found[weight] = (errors[0], errors[-1])
    assert found[30.0][0] == found[0.0][0]
    (before, cosine), (after, learned) = found[30.0]
    assert after < 0.9 * before and learned > cosine + 0.2
    assert after < found[0.0][1][0]


@pytest.mark.slow
def test_activations_may_be_computed_again(text_folder: Path) -> None:
    teacher, t = Teacher(str(text_folder), CPU), torch.tensor([3, 40, 60])
    gradients = []
    for again in (False, True):
        clip = clip_like(text_folder)
        clip.image.encoder.gradient_checkpointing = again  # type: ignore[union-attr]
        Contrastive(teacher, 1.0)(clip, batch(3, WORDS), t, RowRng(0, range(3)))["loss"].mean().backward()
        gradients.append([p.grad for p in clip.parameters()])
    assert any(g is not None and g.abs().max() > 0 for g in gradients[0])
    for one, two in zip(*gradients, strict=True):
        assert (one is None) == (two is None)
        if one is not None and two is not None:
            torch.testing.assert_close(one, two)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the caption is longer")
def test_the_run(text_folder: Path, tmp_path: Path) -> None:
    """Both losses and the cosine are logged; a run that goes on is the same bit for bit."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_clip(settings(whole, text_folder, wrong_captions=2))
    train_clip(settings(parts, text_folder, {"steps": 2}, wrong_captions=2))
    train_clip(settings(parts, text_folder, wrong_captions=2, resume=True))
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (whole, parts)
    ]
    for line in logs[0]:
        assert (
            line["gradient_error"] > 0 and -1 <= line["cosine"] <= 1 and line["loss"] > line["gradient_error"]
        )
    assert logs[0][-1]["loss"] == logs[1][-1]["loss"]
    one, two = (load_file(run / "checkpoints/step-0000004/model.safetensors") for run in (whole, parts))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    assert not any("teacher" in name for name in one)


def test_refusals(text_folder: Path, class_folder: Path, upsampler_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "x"
    wrong: list[tuple[TrainClip, str]] = [
        (settings(out, text_folder, like=None), "without a model to learn from, expected one: give --like"),
        (
            settings(out, text_folder, gradient_weight=-1.0),
            "got --gradient-weight -1.0, expected a finite number",
        ),
        (
            settings(out, text_folder, gradient_weight=float("nan")),
            "got --gradient-weight nan, expected a finite",
        ),
        (settings(out, text_folder, {"compile": True}), "got --compile with --gradient-weight"),
        (settings(out, text_folder, {"shard": True}), "got --shard with --gradient-weight"),
        (settings(out, text_folder, {"dtype": "float16"}), "got --dtype float16 with --gradient-weight"),
    ]
    for args, said in wrong:
        with pytest.raises(InputError, match=said):
            train_clip(args)
    for folder in (class_folder, upsampler_folder):
        with pytest.raises(InputError, match="expected a base model that reads captions"):
            Teacher(str(folder), CPU)
    assert not out.exists()
