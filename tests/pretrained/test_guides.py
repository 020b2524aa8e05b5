"""The embedded noisy classifier and noisy CLIP: small, trained here, good at what they guide by, found by name."""

import json
from pathlib import Path

import pytest
import torch

import guidance
from glide.data.datasets import on_device, open_data
from glide.data.hard_negatives import WithHardNegatives
from glide.shapes.dataset import held_out_scenes
from glide.shapes.scene import SHAPES
from glide.utils.images import read_recipe, to_float
from guidance.classifier.load import load_classifier
from guidance.clip.guide import clip_guidance
from guidance.clip.load import load_clip
from guidance.clip.network import NoisyClip
from guidance.clip.noise_levels import retrieval
from guidance.guide_networks import GuideNetworks
from guidance.options import Options
from support.sample_script import QUICK, call

MODELS = Path(guidance.__file__).parent / "pretrained"
NAMES = ("shapes-shape", "shapes-clip")


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small_and_say_how_they_were_trained(name: str) -> None:
    files = {file.name: file.stat().st_size for file in (MODELS / name).iterdir()}
    assert sum(files.values()) <= 8 * 2**20 and "model.safetensors" in files
    training = json.loads((MODELS / name / "config.json").read_text())["training"]
    assert training["command"].startswith("python scripts/train_")


@torch.no_grad()
def test_the_classifier_tells_shapes_apart() -> None:
    classifier = load_classifier("shapes-shape")
    assert classifier.config.class_names == SHAPES
    image = to_float(open_data("shapes:one", 64, split="held_out").batch(0, 64)["image"])
    wanted = torch.tensor([SHAPES.index(s.things[0].shape) for s in held_out_scenes(64, ("one",))])
    found = classifier(image, torch.zeros(64, dtype=torch.int64)).argmax(dim=1)
    assert (found == wanted).float().mean() > 0.9


@pytest.mark.slow
def test_the_clip_tells_one_wrong_fact() -> None:
    batch = on_device(WithHardNegatives(open_data("shapes", 64, split="held_out"), 0, 4).batch(0, 64), "cpu")
    (level,) = retrieval(
        load_clip("shapes-clip"), batch["image"], batch["caption"], [100], torch.float32, batch["wrong"]
    )
    assert level.image_to_text > 0.8 and level.fact is not None and level.fact > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_the_clip_of_a_pipeline_is_the_same_in_its_type(dtype: torch.dtype, most: float) -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    clip = GuideNetworks(torch.device("cpu"), dtype=dtype).clip(Options())
    assert isinstance(clip, NoisyClip)
    assert dtype in {p.dtype for p in clip.image.parameters()}
    assert {p.dtype for p in clip.text.parameters()} == {torch.float32}
    wanted = clip_guidance(load_clip("shapes-clip"), "a red star", 1.0).gradient(x, 300)
    guide = clip_guidance(clip, "a red star", 1.0, dtype=dtype)
    for _ in range(2):  # the second time by weights in another order
        assert (guide.gradient(x, 300) - wanted).norm() < most * wanted.norm()


@pytest.mark.slow
@pytest.mark.parametrize("option, name, told", [
    ("classifier", "shapes-shape", ["--label", "star"]),
    ("clip", "shapes-clip", ["--prompt", "a red star"]),
])  # fmt: skip
def test_they_are_the_usual_ones(option: str, name: str, told: list[str], tmp_path: Path) -> None:
    assert call("--guidance", option, *told, "--out", tmp_path, *QUICK) == 0
    recipe = read_recipe(tmp_path / "00000.png")
    assert recipe["options"][option] == name and list(recipe["guides"]) == [option]
    assert call("--like", tmp_path / "00000.png", "--out", tmp_path) == 0
    assert (tmp_path / "00001.png").read_bytes() == (tmp_path / "00000.png").read_bytes()
