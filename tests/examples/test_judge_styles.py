"""The judge of emoji in styles: the probe on separable features, its figures, and the command."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("webdataset")

import judge_styles
from judge_styles import JudgeStyles, names, pair_of
from linear_probe import top, train_probe
from style_judgement import judge, table

from glide.data.shards.writer import write_shards
from glide.utils.errors import InputError
from toolkit.evaluation.picture_sets import PictureArray

CONCEPTS, STYLES = 6, 3


def features(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Features [N,16] that are the sum of one vector of the concept and one of the style; concepts [N], styles [N]."""
    draw = torch.Generator().manual_seed(7)
    concept_vectors, style_vectors = (torch.randn(k, 16, generator=draw) for k in (CONCEPTS, STYLES))
    draw = torch.Generator().manual_seed(seed)
    concepts = torch.randint(CONCEPTS, (count,), generator=draw)
    styles = torch.randint(STYLES, (count,), generator=draw)
    noise = 0.1 * torch.randn(count, 16, generator=draw)
    return concept_vectors[concepts] + style_vectors[styles] + noise, concepts, styles


def test_the_probe_tells_what_is_linear() -> None:
    x, concepts, styles = features(200, 0)
    new, new_concepts, new_styles = features(60, 1)
    for labels, wanted, count in ((concepts, new_concepts, CONCEPTS), (styles, new_styles, STYLES)):
        probe = train_probe(x, labels, count)
        assert top(probe.logits(new), wanted, 1).float().mean() > 0.95
        assert top(probe.logits(new), wanted, count).all()
        assert torch.allclose(probe.weights.norm(dim=1), torch.ones(count), atol=1e-5)
    assert torch.equal(train_probe(x, concepts, CONCEPTS).weights, train_probe(x, concepts, CONCEPTS).weights)


def test_figures_of_true_pictures_are_those_of_a_perfect_model() -> None:
    x, concepts, styles = features(200, 0)
    true, true_concepts, true_styles = features(40, 2)
    probes = train_probe(x, concepts, CONCEPTS), train_probe(x, styles, STYLES)
    found = judge(*probes, true, true, x, (true_concepts, true_styles))
    for one in found.figures[:3]:
        assert one.true is not None and one.drawn == one.true
    wrong = judge(*probes, true.roll(1, 0), true, x, (true_concepts, true_styles))
    assert wrong.figures[1].drawn.value < 0.6 < found.figures[1].drawn.value
    copied = judge(*probes, x[:40], true, x, (true_concepts, true_styles))
    assert copied.figures[4].drawn.value == 1 and copied.figures[5].drawn.value == 1
    assert torch.equal(copied.nearest, torch.arange(40))
    assert table(found).count("\n") == 7 and "100.0%" in table(copied)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder as of build_styles.py: concepts are colours, styles darken the lower half, a third is held out."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    colours = {f"1f34{i}": rng.integers(60, 255, 3) for i in range(4)}
    shades = {"noto": 1.0, "flat": 0.5, "blob": 0.2}
    samples: dict[str, list[tuple[str, dict[str, bytes]]]] = {"train": [], "held_out": []}
    for i, (code, colour) in enumerate(colours.items()):
        for j, (style, shade) in enumerate(shades.items()):
            pixels = np.broadcast_to(colour, (16, 16, 3)).astype(np.float64)
            pixels[8:] *= shade
            file = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
            split = "held_out" if i % 3 == j else "train"
            samples[split].append((f"{code}-{style}", {"png": file.getvalue(), "txt": b"a caption"}))
    for split, found in samples.items():
        write_shards(folder / split, found, 100)
    concepts = {code: {"concept": f"thing {code}"} for code in colours}
    (folder / "styles.json").write_text(json.dumps({"concepts": concepts, "styles": dict.fromkeys(shades)}))
    return folder


def test_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def draws(args: JudgeStyles, captions: list[str]) -> PictureArray:
        asked.extend(captions)
        return PictureArray("drawn", np.full((len(captions), 16, 16, 3), 128, np.uint8), captions)

    monkeypatch.setattr(judge_styles, "draw", draws)
    monkeypatch.setattr(judge_styles, "features_named", lambda name, device: _colours())
    args = JudgeStyles("x", data=data, out=tmp_path / "out", captions=3)
    found = judge_styles.judge_styles(args)
    assert len(asked) == 3 and all(caption.startswith("thing 1f34") for caption in asked)
    assert {caption.rsplit(", ")[1] for caption in asked} <= {"noto style", "flat style", "blob style"}
    written = json.loads((tmp_path / "out/judged.json").read_text("utf-8"))
    assert written["figures"]["concept right"]["true"]["value"] == 1.0
    assert len(written["pictures"]) == 3 and len(found.nearest) == 3
    assert (tmp_path / "out/sheet-0.png").exists() and (tmp_path / "out/judged.md").exists()
    with pytest.raises(InputError, match="already holds results"):
        judge_styles.judge_styles(args)


def _colours():
    from toolkit.evaluation.features import Features

    def network(images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    return Features("colours", "colours", 8, 12, "colours", network, torch.device("cpu"))


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"styles\.json"):
        names(tmp_path)
    (tmp_path / "styles.json").write_text("[]")
    with pytest.raises(InputError, match="build it"):
        names(tmp_path)
    assert pair_of("x/0.tar/1f44b-1f3fb-noto.png") == ("1f44b-1f3fb", "noto")
