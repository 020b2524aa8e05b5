"""Measures that ask the captions of the built-in scenes refuse a model of other pictures, before anything is drawn."""

from pathlib import Path
from typing import Any

import pytest

from glide.checkpoints.load import save_model
from glide.checkpoints.trained_on import check_built_in_scenes, trained_on
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer
from glide.utils.errors import InputError
from toolkit.commands.binding import bind
from toolkit.commands.binding_flags import Bind
from toolkit.commands.evaluate import evaluate
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.evaluate_inpainting import evaluate_inpainting
from toolkit.commands.evaluate_inpainting_flags import EvaluateInpainting
from toolkit.commands.guidance_sweep import sweep
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.commands.solver_sweep import solver_sweep
from toolkit.commands.solver_sweep_flags import SolverSweep


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(PRESETS["tiny"], Tokenizer.train(captions_for_tokenizer(), 512, 24))


@pytest.mark.parametrize(
    ("training", "data"),
    [
        (None, None),
        ({"step": 3}, None),
        ({"data": "shapes:one=1,pair=2"}, "shapes:one=1,pair=2"),
        ({"data": "photos/"}, "photos/"),
        ({"data": "shapes-of-mine/"}, "shapes-of-mine/"),
        ({"command": "python scripts/train_base.py --data shapes:one --steps 3"}, "shapes:one"),
        ({"command": "python scripts/train_base.py --data=photos/ --steps 3"}, "photos/"),
        ({"converted": {"path": "base.pt"}}, "a published training"),
    ],
)
def test_the_data_of_a_models_training(
    model: Model, tmp_path: Path, training: dict[str, Any] | None, data: str | None
) -> None:
    save_model(tmp_path / "model", model, training)
    assert trained_on(tmp_path / "model") == data
    if data is None or data in ("shapes:one", "shapes:one=1,pair=2"):
        check_built_in_scenes(tmp_path / "model")
    else:
        with pytest.raises(InputError, match="trained on"):
            check_built_in_scenes(tmp_path / "model")


def test_the_embedded_model_is_of_the_built_in_scenes() -> None:
    assert str(trained_on("shapes")).startswith("shapes:")


def test_a_model_of_other_pictures_is_not_judged_by_the_captions_of_the_scenes(
    model: Model, tmp_path: Path
) -> None:
    name = str(tmp_path / "model")
    save_model(name, model, {"data": "photos/"})
    out = tmp_path / "out"
    for measure in (
        lambda: sweep(Sweep(name, out=out, no_plot=True)),
        lambda: sweep(Sweep(name, out=out, no_plot=True, ask="class", guidance=("classifier",))),
        lambda: solver_sweep(SolverSweep(name, out=out, no_plot=True)),
        lambda: evaluate(Evaluate(name, out=out)),
        lambda: evaluate_inpainting(EvaluateInpainting(name, out=out)),
        lambda: bind(Bind(name)),
    ):
        with pytest.raises(InputError, match="trained on photos/, expected one of the built-in scenes"):
            measure()
    assert not out.exists()
