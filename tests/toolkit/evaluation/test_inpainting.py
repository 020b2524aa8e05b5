"""The evaluation of inpainting: what it asks, and that it judges a perfect painter perfect."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.checkpoints.load import save_model
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer, parse_caption, render
from glide.shapes.oracle import Oracle
from glide.shapes.scene import SIZES, Scene, Thing
from glide.utils.errors import InputError
from support.models import randomised
from toolkit.commands.evaluate_inpainting import evaluate_inpainting
from toolkit.commands.evaluate_inpainting_flags import EvaluateInpainting
from toolkit.evaluation.inpainting import CORNERS, QUESTIONS, Case, cases, judge, paint_and_judge, table
from toolkit.pipelines.inpaint import Plan, plan
from toolkit.pipelines.inpaint_region import Region
from toolkit.pipelines.pipeline import Pipeline, Step
from toolkit.pipelines.settings import SamplingConfig

FOUND = cases(60)


def painted(case: Case, color: str | None = None, shape: str | None = None) -> Scene:
    """The case's scene with the asked thing in its corner, or with another."""
    at = {"left": 0.24, "right": 0.76, "top": 0.24, "bottom": 0.76}
    words = case.corner.split()
    radius = SIZES["medium"][0]
    thing = Thing(shape or case.shape, color or case.color, "medium", at[words[3]], at[words[2]], radius)
    scene = case.scene
    return Scene((*scene.things, thing), scene.background, scene.kind, scene.caption, scene.facts)


def test_what_is_asked() -> None:
    assert cases(60) == FOUND and FOUND[:7] == cases(7) and cases(60, seed=1) != FOUND
    assert [case.kind for case in FOUND[:4]] == ["alone", "beside", "alone", "beside"]
    assert {case.corner for case in FOUND} == set(CORNERS) and len({case.shape for case in FOUND}) > 5
    for case in FOUND:
        facts = {fact.kind: fact.value for fact in parse_caption(case.caption)}  # of the grammar
        assert facts == {
            "count": 1,
            "color": case.color,
            "shape": case.shape,
            "position": case.corner,
        }
        assert len(case.scene.things) == (case.kind == "beside")


def test_the_masked_corner_holds_what_is_asked_and_nothing_else() -> None:
    for case in FOUND:
        unknown = case.unknown(64)
        assert unknown.sum() == 32 * 32
        (empty, scene, filled) = render(
            [Scene((), case.scene.background, "one", "", ()), case.scene, painted(case)], 64
        )
        own = (scene != empty).any(-1)  # the scene's own thing is not cut
        assert not (own & unknown).any() and own.any() == (case.kind == "beside")
        new = (filled != scene).any(-1)
        assert new.any() and not (new & ~unknown).any()


@pytest.mark.slow
def test_the_oracle_judges_true_and_false_paintings() -> None:
    oracle, some = Oracle(), FOUND[:16]

    def shares(scenes: list[Scene]) -> dict[str, float]:
        pixels = render(scenes, 64)
        answers = [judge(case, oracle.read(rgb)) for case, rgb in zip(some, pixels, strict=True)]
        return {question: float(np.mean([a[question] for a in answers])) for question in QUESTIONS}

    assert set(shares([painted(case) for case in some]).values()) == {1.0}
    assert set(shares([case.scene for case in some]).values()) == {0.0}
    wrong = shares([painted(case, shape="ring" if case.shape != "ring" else "cross") for case in some])
    assert (wrong["right"], wrong["color"], wrong["shape"], wrong["count"]) == (0.0, 1.0, 0.0, 1.0)


class Painter(Pipeline):
    """Paints what is asked into every case but those in `spoiled`."""

    def __init__(self, spoiled: set[int]) -> None:
        self.spoiled = spoiled

    def draw(self, pictures, settings) -> list[Step]:  # type: ignore[override]
        scenes = [FOUND[p.seed].scene if p.seed in self.spoiled else painted(FOUND[p.seed]) for p in pictures]
        x: Tensor = torch.from_numpy(render(scenes, 64).astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        for picture, drawn in zip(pictures, x, strict=True):
            assert picture.caption == FOUND[picture.seed].caption
            given = picture.given
            assert torch.allclose(given.image, drawn * given.mask, atol=1e-6) and given.mask.mean() == 0.75
        return [Step(0, 0, x, x)]


@pytest.mark.slow
def test_a_perfect_painter_is_judged_perfect_and_a_spoiled_one_is_not() -> None:
    how = Plan(Region(0, 0, 64), "model", SamplingConfig(), 0, 64, 64)
    for spoiled in (set(), {3, 12, 17}):
        answers = list(paint_and_judge(Painter(spoiled), FOUND[:20], how, batch_size=16))
        assert {i for i, answer in enumerate(answers) if not answer.holds["right"]} == spoiled
    text = table(answers)
    assert "| all | 20 | 85.0 | 85.0 | 85.0 | 85.0 | 85.0 | 85.0 |" in text
    assert text.splitlines()[2].startswith("| alone | 10 | 90.0") and "| beside | 10 | 80.0" in text


@pytest.mark.slow
def test_the_script_writes_its_table_and_pictures(tmp_path: Path, class_folder: Path) -> None:
    model = Model(PRESETS["tiny"], Tokenizer.train(captions_for_tokenizer(), 512, 24))
    save_model(tmp_path / "model", randomised(model, seed=0))
    args = EvaluateInpainting(str(tmp_path / "model"), scenes=5, steps=2, out=tmp_path / "out")
    answers = evaluate_inpainting(args)
    assert len(answers) == 5 and answers[0].pixels.shape == (16, 16, 3)
    assert (tmp_path / "out/inpainting.md").read_text().count("\n") == 5
    assert (tmp_path / "out/wrong.png").exists() or (tmp_path / "out/right.png").exists()
    with pytest.raises(InputError, match="--scenes 0"):
        evaluate_inpainting(EvaluateInpainting(scenes=0))
    with pytest.raises(InputError, match="draws no captions"):
        evaluate_inpainting(EvaluateInpainting(str(class_folder), out=tmp_path / "no"))
    pipe = Pipeline(model)
    how = plan(pipe, FOUND[0].unknown(16), SamplingConfig(), "replace", context=float("inf"))
    assert how.region == Region(0, 0, 16) and how.feather == 0
