"""Recipes of strangers: every value is checked, and what they name is not opened unasked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

import glide.utils.filesystem
import glide.utils.hub
from glide.checkpoints import provenance as machine
from glide.checkpoints.load import load_model, save_model
from glide.utils.images import load_image, read_recipe, save_png
from support.sample_script import QUICK, Capture, call, pngs, refused
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe_reader import is_embedded

RED = "a large red circle"


@pytest.fixture(scope="module")
def drawn(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    assert call("--model", text_folder, "--prompt", RED, "--out", folder, "--grid", *QUICK) == 0
    return folder


def altered(drawn: Path, path: Path, changes: dict[str, Any], name: str = "00000.png") -> Path:
    """A copy of the picture whose recipe has other values; ... takes one away."""
    recipe = {**read_recipe(drawn / name), **changes}
    save_png(path, load_image(drawn / name), {k: v for k, v in recipe.items() if v is not ...})
    return path


BAD: list[tuple[dict[str, Any], str]] = [
    ({"seed": 5.5}, "got seed 5.5, expected a whole number"),
    ({"seed": "5"}, "got seed '5', expected a whole number"),
    ({"seed": True}, "got seed True"),
    ({"seed": -1}, "got seed -1"),
    ({"seed": ...}, "is incomplete (it has no seed)"),
    ({"prompt": None}, "has prompt null, expected a text"),
    ({"prompt": ["a"]}, "has prompt a list, expected a text"),
    ({"prompts": "a"}, "has prompts 'a', expected a list"),
    ({"prompts": ["a", 1]}, "has prompts 1, expected texts"),
    ({"prompts": ["a"] * 10_001}, "has prompts a list, expected a list of at most 10000"),
    ({"label": "x"}, "got label 'x'"),
    ({"scale": None}, "got scale None"),
    ({"scale": 1e300}, "got scale 1e+300"),
    ({"eta": 2}, "got eta 2, expected"),
    ({"sampler": 3}, "has sampler 3, expected a text"),
    ({"respacing": 3}, "has respacing 3, expected a text"),
    ({"guidance": {"a": 1}}, "has guidance an object"),
    ({"guidance": [["cfg"]]}, "has guidance a list, expected texts"),
    ({"options": 3}, "has options 3, expected a table"),
    ({"options": {"colour": "x"}}, "has options.colour 'x', expected one of rescale"),
    ({"options": {"negative": 3}}, "has options.negative 3, expected a text"),
    ({"guides": {"clip": 3}}, "has guides.clip 3, expected a text"),
    ({"guides": ["clip"]}, "has guides a list, expected a table"),
    ({"upsampler": None}, "has upsampler null, expected a table"),
    ({"upsampler": {}, "size": 64}, "is incomplete (it has no upsampler.guidance"),
    ({"compile": "yes"}, "has compile 'yes', expected true or false"),
    ({"num_samples": 1.5}, "got num_samples 1.5"),
    ({"call_size": 0}, "got call_size 0"),
    ({"place": -1}, "got place -1"),
    ({"place": "x" * 10**5}, "got place 'xxx"),
    ({"device": 3}, "has device 3"),
    ({"model": ["x"]}, "has model a list"),
    ({"strength": float("1e30")}, "got strength 1e+30"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("changes", "said"), BAD, ids=lambda value: str(value)[:30])
def test_recipes_that_no_version_wrote(
    drawn: Path, tmp_path: Path, capsys: Capture, changes: dict[str, Any], said: str
) -> None:
    picture = altered(drawn, tmp_path / "x.png", changes)
    refused(call("--trust-recipe", "--like", picture, "--out", tmp_path / "o"), capsys, said)
    assert pngs(tmp_path / "o") == []


def test_guides_without_options(drawn: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = altered(drawn, tmp_path / "x.png", {"guides": {"weak": "00"}, "options": ...})
    assert call("--trust-recipe", "--like", picture, "--out", tmp_path / "o") == 0


NAMED: list[dict[str, Any]] = [
    {"model": "gs://evil/model"},
    {"model": "org/name"},
    {"model": "../models/../shapes"},
    {"model": "/dev/zero"},
    {"vocab": "org/name"},
    {"init_image": "/dev/zero", "strength": 0.5},
    {"init_image": "az://evil/x.png", "strength": 0.5},
    {"guidance": "auto", "options": {"weak": "https://evil.blob.core.windows.net/x"}},
    {"guidance": "clip", "options": {"clip": "org/name"}},
    {"guidance": "clip", "options": {"clip_vocab": "org/name"}},
    {"guidance": "classifier", "options": {"classifier": "gs://evil/64x64_classifier.pt"}},
    {"rerank": "clip", "options": {"clip": "org/name"}},
]


@pytest.mark.slow
@pytest.mark.parametrize("changes", NAMED, ids=str)
def test_what_a_recipe_names_is_not_opened_unasked(
    drawn: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError("a network was asked")

    monkeypatch.setattr(glide.utils.hub, "hub_folder", never)
    monkeypatch.setattr(glide.utils.filesystem, "_remote", never)
    monkeypatch.setattr(Pipeline, "from_pretrained", never)
    picture = altered(drawn, tmp_path / "x.png", {"model": "shapes", **changes})
    name = next(iter(changes.get("options", changes).values()))
    refused(call("--like", picture, "--out", tmp_path / "o"), capsys, f" {name}: give yourself")


@pytest.mark.slow
def test_what_is_named_is_taken_where_it_is_given_or_trusted(
    text_folder: Path, drawn: Path, tmp_path: Path, capsys: Capture
) -> None:
    picture = drawn / "00000.png"
    refused(
        call("--like", picture, "--out", tmp_path / "o"),
        capsys,
        f"names --model {text_folder}: give yourself",
    )
    assert call("--like", picture, "--model", text_folder, "--out", tmp_path / "o") == 0
    assert call("--like", picture, "--trust-recipe", "--out", tmp_path / "o") == 0
    for name in ("00000.png", "00001.png"):
        assert (tmp_path / "o" / name).read_bytes() == picture.read_bytes()


def test_embedded_names() -> None:
    assert all(map(is_embedded, ("shapes", "shapes-clip", "shapes-shape")))
    assert not any(
        map(is_embedded, ("", ".", "..", "../models/shapes", "shapes/", "/shapes", "x", "org/name"))
    )


@pytest.mark.filterwarnings("default")
def test_nothing_is_compiled_and_no_threads_are_taken_unasked(
    text_folder: Path, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    asked: list[object] = []
    make = Pipeline.from_pretrained.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Pipeline,
        "from_pretrained",
        classmethod(
            lambda cls, *args, **more: asked.append(more.get("compiles")) or make(cls, *args, **more)
        ),
    )
    before = torch.get_num_threads()
    picture = altered(drawn, tmp_path / "x.png", {"compile": True, "threads": 1024})
    assert call("--like", picture, "--model", text_folder, "--out", tmp_path / "o") == 0
    assert asked == [False] and torch.get_num_threads() == before
    assert "was drawn with --compile, which is done where you ask for it" in capsys.readouterr().err


def test_threads_within_the_machine() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (10**6, (os.cpu_count() or 1) + 1, 0, -1, True, "2", None):
            with pytest.warns(UserWarning, match="drawn with threads|drawn with kernels|version"):
                machine.restore_environment({"threads": threads, "version": "other"}, torch.device("cpu"))
            assert torch.get_num_threads() == before
    finally:
        torch.set_num_threads(before)


def test_older_recipes_named_the_norms_alone() -> None:
    here = machine.environment(torch.device("cpu"))
    assert machine.differences({**here, "gpu": "another"}, here) == []
    (said,) = machine.differences({"norms": "fused"}, here)
    assert said == f"kernels fused norms, not {here['kernels']}"
    assert machine.differences({"norms": "fused", **here}, here) == []


def test_a_picture_that_is_not_finite_is_none(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    model = load_model(text_folder)
    with torch.no_grad():
        model.unet.stem.weight.fill_(1e38)  # finite, and its products are not
    save_model(tmp_path / "m", model, None)
    assert call("--model", tmp_path / "m", "--prompt", RED, "--out", tmp_path / "o", *QUICK) == 2
    assert "not finite (nan or infinite), which are no picture" in capsys.readouterr().err
    assert pngs(tmp_path / "o") == []
