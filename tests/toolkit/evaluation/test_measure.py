"""The measuring scripts at tiny size: bits per dimension, and the oracle's evaluation."""

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import load_model, save_model
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer, held_out_scenes, render
from glide.utils.errors import InputError
from toolkit.commands.evaluate import evaluate
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.nll import nll
from toolkit.commands.nll_flags import Nll
from toolkit.evaluation import prompt_fidelity as judging
from toolkit.evaluation.prompt_fidelity import Tally, judge_model, table
from toolkit.pipelines.pipeline import Pipeline, Step
from toolkit.pipelines.settings import SamplingConfig


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the built-in scenes, 16x16, that has learned nothing."""
    folder = tmp_path_factory.mktemp("models") / "untrained"
    save_model(folder, Model(PRESETS["tiny"], Tokenizer.train(captions_for_tokenizer(), 512, 24)))
    return folder


@pytest.mark.slow
def test_nll_adds_up(untrained: Path, tmp_path: Path) -> None:
    args = Nll(str(untrained), images=4, batch_size=3, respacing="10", out=tmp_path / "nll.json")
    mean = nll(args)
    record = json.loads((tmp_path / "nll.json").read_text())
    assert len(record["images"]) == 4 and len(record["terms"]) == 10
    assert mean == pytest.approx(sum(record["images"]) / 4, rel=1e-5)
    assert mean == pytest.approx(record["prior"] + sum(record["terms"].values()), rel=1e-5)
    assert mean > 3  # an untrained network knows nothing about these pictures


@pytest.mark.slow
def test_a_model_that_inpaints_is_measured_where_nothing_is_known(untrained: Path, tmp_path: Path) -> None:
    plain = load_model(untrained)
    model = Model(dataclasses.replace(plain.config, inpaint=True), plain.tokenizer)
    init_from(model, plain)  # its planes for the known pixels begin without effect
    save_model(tmp_path / "inpaint", model)
    both = [
        nll(Nll(str(folder), images=3, batch_size=2, respacing="5"))
        for folder in (untrained, tmp_path / "inpaint")
    ]
    assert both[0] == pytest.approx(both[1], rel=1e-6)


def test_nll_refuses_what_does_not_fit(untrained: Path, class_folder: Path, upsampler_folder: Path) -> None:
    with pytest.raises(InputError, match="another picture beside the noisy one"):
        nll(Nll(str(upsampler_folder), images=1))
    with pytest.raises(InputError, match="--images 0"):
        nll(Nll(str(untrained), images=0))
    with pytest.raises(InputError, match="without classes, expected"):
        nll(Nll(str(class_folder), images=1))


class TruePictures(Pipeline):
    """Draws every caption's scene as it is, but for the places in `spoiled`, where it draws another's."""

    def __init__(self, spoiled: set[int]) -> None:
        self.spoiled = spoiled
        self.scenes = held_out_scenes(40)

    def draw(self, pictures: list[ImageRequest], settings: SamplingConfig) -> list[Step]:  # type: ignore[override]
        scenes = [self.scenes[(p.seed + (p.seed in self.spoiled)) % 40] for p in pictures]
        x: Tensor = torch.from_numpy(render(scenes, 64).astype(np.float32)).permute(0, 3, 1, 2) / 127.5 - 1
        return [Step(0, 0, x, x)]


@pytest.mark.slow
def test_a_perfect_model_is_judged_perfect_and_a_spoiled_one_is_not() -> None:
    for spoiled in (set(), {3, 17, 30}):
        pipe = TruePictures(spoiled)
        tally = Tally()
        judged = list(judge_model(pipe, pipe.scenes, SamplingConfig(), tally, batch_size=16))
        wrong = {i for i, picture in enumerate(judged) if not picture.right}
        assert wrong == spoiled
        assert tally.share("any") == 1 - len(spoiled) / 40
    assert tally.counts["any", judging.EVERYTHING][1] == 40
    assert "| cfg 3 | any | 40 | 92.5 |" in table({"cfg 3": tally})


@pytest.mark.slow
def test_evaluate_writes_its_table_and_pictures(untrained: Path, tmp_path: Path) -> None:
    tallies = evaluate(Evaluate(str(untrained), captions=6, scales=(1.0, 3.0), steps=2, out=tmp_path / "out"))
    assert set(tallies) == {"cfg 1", "cfg 3"} and tallies["cfg 3"].share("any") == 0
    rows = list(csv.DictReader((tmp_path / "out/evaluate.csv").read_text().splitlines()))
    assert {row["run"] for row in rows} == {"cfg 1", "cfg 3"}
    assert (tmp_path / "out/cfg3-wrong.png").exists() and not (tmp_path / "out/cfg3-right.png").exists()
    assert len((tmp_path / "out/cfg3-wrong.txt").read_text().splitlines()) == 6


def test_evaluate_refuses_a_model_without_text(class_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="draws no captions"):
        evaluate(Evaluate(str(class_folder), out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()
