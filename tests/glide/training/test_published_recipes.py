"""The table of published trainings: it names presets that are there, its numbers reach the flags, flags come first."""

from pathlib import Path

import pytest
import torch

from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.training.published_recipes import RECIPES, parse_with_recipe, table
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS
from guidance.classifier.train_flags import TrainClassifier
from guidance.clip.config import CLIPS
from guidance.clip.train_flags import TrainClip
from support.paths import ROOT
from upsampler.presets import UPSAMPLERS
from upsampler.train_flags import TrainUpsampler

SCRIPTS = {
    "train_base": (TrainBase, PRESETS),
    "train_upsampler": (TrainUpsampler, UPSAMPLERS),
    "train_classifier": (TrainClassifier, CLASSIFIERS),
    "train_clip": (TrainClip, CLIPS),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe(name: str) -> None:
    recipe = RECIPES[name]
    args, presets = SCRIPTS[recipe.script]
    assert recipe.preset in presets and recipe.source
    recipe.train.check()
    found = parse_with_recipe(args, recipe.script, None, ["--out", "x", "--recipe", name, "--lr", "0.5"])
    assert found.out == Path("x") and found.recipe == name and found.preset == recipe.preset
    assert found.train.batch_size == recipe.train.batch_size and found.train.steps == recipe.train.steps
    assert found.train.optim.lr == 0.5 and found.train.optim.betas == recipe.train.optim.betas
    for key, value in recipe.more.items():
        assert getattr(found, key) == value


def test_names_and_flags() -> None:
    plain = parse_with_recipe(TrainBase, "train_base", None, ["--out", "x", "--steps", "3"])
    assert plain.train.steps == 3 and plain.recipe is None
    with pytest.raises(InputError, match="--recipe 'adm-64-256': expected one of ddpm-cifar10"):
        parse_with_recipe(TrainBase, "train_base", None, ["--out", "x", "--recipe=adm-64-256"])
    with pytest.raises(InputError, match="--out"):
        parse_with_recipe(TrainBase, "train_base", None, ["--recipe", "adm-64"])


def test_ddpms_network() -> None:
    """35.7 million weights on CIFAR-10 (2006.11239, section 4)."""
    with torch.device("meta"):
        count = sum(p.numel() for p in Model(PRESETS["ddpm-32"]).parameters())
    assert count / 1e6 == pytest.approx(35.7, abs=0.1)


def test_the_docs_have_the_table() -> None:
    assert table() in (ROOT / "docs/scaling.md").read_text("utf-8")
