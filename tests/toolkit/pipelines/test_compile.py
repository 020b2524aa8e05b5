"""--compile: the same pictures but for rounding, and said in the recipe."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glide.networks import compile as module
from glide.networks.image_request import ImageRequest
from glide.networks.key_cache import with_keys
from glide.networks.model import Model
from glide.utils.images import read_recipe
from support.models import CAPTIONS, randomised
from support.sample_script import Capture, call, refused
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]
# of PyTorch's own, about parts of itself
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{what}")
    for what in (":DeprecationWarning", ":FutureWarning", "Guards may run slower:RuntimeWarning")
]
COMPILER = any(map(shutil.which, module.COMPILERS))


@pytest.mark.slow
def test_a_u_net_is_one_graph(text_model: Model) -> None:
    """Without a break, so that all of it can be compiled together, and replayed on a GPU."""
    with torch.no_grad():
        cond = with_keys(text_model.unet, text_model.condition(text_model.caption_batch([RED, SQUARE])))
        found = torch._dynamo.explain(text_model.unet)(torch.zeros(2, 3, 8, 8), torch.tensor([5, 5]), cond)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


@pytest.mark.slow
@pytest.mark.skipif(not COMPILER, reason="no C++ compiler")
def test_the_same_pictures_but_for_rounding(text_model: Model) -> None:
    # one level, as the compiler takes a second for every few layers
    unet = replace(text_model.config.unet, channel_mult=(1,), attention=(1,))
    model = randomised(Model(replace(text_model.config, unet=unet), text_model.tokenizer), seed=4)
    pictures = [ImageRequest(i, caption) for i, caption in enumerate([RED, SQUARE])]
    settings = SamplingConfig("ddim", "4", 0.0, "cfg", 2.0)
    found = []
    for compiles in (False, True):
        pipe = Pipeline(model, call_size=2, compiles=compiles)
        *_, step = pipe.draw(pictures, settings)
        found.append(step.x)
        assert ("compile" in pipe.recipe(pictures[0], settings, 0)) == compiles
    plain, other = found
    assert (plain - other).abs().max() < 1e-4 * plain.std()


@pytest.mark.slow
def test_it_is_repeated_and_refused(
    text_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def spy(unet: torch.nn.Module) -> torch.nn.Module:
        asked.append(True)
        return unet

    command = ["--model", text_folder, "--prompt", RED, "--steps", "2", "--out", tmp_path / "o", "--compile"]
    with monkeypatch.context() as patched:
        patched.setattr("toolkit.pipelines.base.compiled", spy)
        assert call(*command) == 0
        assert call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "o") == 0
        assert len(asked) == 2 and read_recipe(tmp_path / "o/00001.png")["compile"] is True
        capsys.readouterr()
        refused(call(*command, "--deep-every", "2"), capsys, "leave --compile or --deep-every out")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    refused(call(*command), capsys, "--compile without a C++ compiler")
