"""Guidances on the command line: several at once, recipes that repeat them, plug-ins, reranking, bad input."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from glide.checkpoints.load import save_model
from glide.networks.config import ModelConfig, ProcessConfig
from glide.networks.model import Model
from glide.utils.entry_points import plug_ins
from glide.utils.errors import InputError
from glide.utils.images import load_image, read_recipe, save_png
from guidance.classifier.load import load_classifier, save_classifier
from guidance.options import Options
from guidance.registry import built_in, known
from guidance.spec import EVERYWHERE, GuidanceSpec
from support.guides import guides as guides  # a fixture
from support.guides import shaken
from support.models import CAPTIONS, tiny_unet
from support.sample_script import QUICK, ROOT, Capture, call, pngs, refused
from toolkit.pipelines.recipe import guidance_of, read_guidance
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]


# --- how it is written ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("cfg", GuidanceSpec("cfg")),
        ("cfg:3", GuidanceSpec("cfg", 3.0)),
        ("clip:50@0-800", GuidanceSpec("clip", 50.0, (0, 800))),
        ("pag@200-200", GuidanceSpec("pag", None, (200, 200))),
        ("cfg:1e-3", GuidanceSpec("cfg", 0.001)),
        ("cfg:0.30000000000000004", GuidanceSpec("cfg", 0.1 + 0.2)),
    ],
)
def test_terms(text: str, term: GuidanceSpec) -> None:
    assert GuidanceSpec.parse(text) == term == GuidanceSpec.parse(str(term))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cfg:",
        "cfg:x",
        "cfg:nan",
        "cfg:-1",
        "cfg:3:4",
        "cfg@",
        "cfg@3",
        "cfg@8-2",
        "cfg@-1-2",
        "a b",
        ":3",
    ],
)
def test_terms_that_are_none(text: str) -> None:
    with pytest.raises(InputError):
        GuidanceSpec.parse(text)


def test_scales_that_are_not_written() -> None:
    terms = SamplingConfig(guidance=("cfg", "pag:1", "clip"), scale=7.0).specs
    assert [term.scale for term in terms] == [7.0, 1.0, 7.0]
    usual = SamplingConfig(guidance=tuple(built_in())).specs
    assert [term.scale for term in usual] == [named.scale for named in built_in().values()]
    with pytest.raises(InputError, match="guidances that all have their own"):
        SamplingConfig(guidance=("cfg:3", "pag:1"), scale=7.0)


def test_a_recipe_names_usual_intervals_and_older_ones_had_none() -> None:
    for name, at in (("clip", "clip@0-900"), ("classifier", "classifier@0-600"), ("cads", "cads@800-1000")):
        assert guidance_of(SamplingConfig(guidance=name), 1000)["guidance"] == at
    assert guidance_of(SamplingConfig(guidance="clip:1@5-7"), 1000)["guidance"] == "clip@5-7"
    assert guidance_of(SamplingConfig(guidance=("cfg", "clip")), 100)["guidance"] == ["cfg:3", "clip:2@0-90"]
    old = {"guidance": "clip", "scale": 2.0}
    texts, _, _ = read_guidance(Recorded(old, "x.png"))
    assert [GuidanceSpec.parse(text).interval for text in texts] == [EVERYWHERE]
    texts, _, _ = read_guidance(Recorded({"guidance": ["cfg:3", "classifier:5", "cads:0.1"]}, "x.png"))
    assert [GuidanceSpec.parse(text).interval for text in texts] == [None, EVERYWHERE, (600, 900)]


def test_a_recipe_holds_a_strength_that_depends_on_the_timestep() -> None:
    for text in ("cfg:0..5", "cfg:3~cos:2@0-900", "pag:7~exp:2"):
        found = guidance_of(SamplingConfig(guidance=text), 1000)
        assert found["guidance"] == [text] and "scale" not in found
        assert read_guidance(Recorded(found, "x.png"))[:2] == ((text,), None)
    usual = guidance_of(SamplingConfig(guidance=("cfg~cos", "clip~exp")), 1000)
    assert usual["guidance"] == ["cfg:3~cos", "clip:2~exp@0-900"]
    assert guidance_of(SamplingConfig(guidance="cfg~cos", scale=5.0))["guidance"] == ["cfg:5~cos"]
    assert guidance_of(SamplingConfig(guidance="cfg:3..3")) == {"guidance": "cfg", "scale": 3.0}


def test_what_a_recipe_says() -> None:
    assert guidance_of(SamplingConfig()) == {"guidance": "cfg", "scale": 3.0}  # as the first version wrote it
    assert guidance_of(SamplingConfig(guidance="cfg:2@10-90")) == {"guidance": "cfg@10-90", "scale": 2.0}
    options = Options(negative="x", rescale=0.7, threshold=0.9)
    several = SamplingConfig(guidance=("cfg", "apg:0.1@0-5"), options=options)
    recipe = guidance_of(several)
    assert recipe == {
        "guidance": ["cfg:3", "apg:0.1@0-5"],
        "options": {"negative": "x", "apg_eta": 0.0, "apg_momentum": 0.0, "rescale": 0.7, "threshold": 0.9},
    }
    for settings in (SamplingConfig(), SamplingConfig(guidance="cfg:2@10-90"), several):
        guidance, scale, read = read_guidance(
            Recorded(json.loads(json.dumps(guidance_of(settings))), "x.png")
        )
        again = SamplingConfig(guidance=guidance, scale=scale, options=read)
        assert again.specs == settings.specs and again.options == settings.options
    for wrong in ({"guidance": "cfg"}, {"guidance": ["cfg"], "options": {"x": 1}}, {"guidance": 3}):
        with pytest.raises(InputError, match=r"the recipe in x\.png"):
            read_guidance(Recorded(wrong, "x.png"))
    with pytest.raises(
        InputError, match=r"x\.png: got options\.rescale 'much', expected a finite number from 0 to 1"
    ):
        read_guidance(Recorded({"guidance": ["cfg"], "options": {"rescale": "much"}}, "x.png"))


# --- pictures and their recipes -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_at_once_and_again(text_folder: Path, guides: Options, tmp_path: Path) -> None:
    flags: list[object] = [
        "--model",
        text_folder,
        "--prompt",
        RED,
        "--label",
        "star",
        "--num-samples",
        3,
        *QUICK,
    ]
    for guidance in ("cfg:3", "apg:2@0-90", "pag", "cads:0.2", "auto", "classifier:5@0-80", "clip"):
        flags += ["--guidance", guidance]
    flags += ["--scale", 2.5, "--negative", SQUARE, "--rescale", 0.5, "--threshold", 0.9, "--apg-norm", 3]
    flags += ["--pag-layers", "middle,up.0", "--weak", guides.weak, "--classifier", guides.classifier]
    flags += ["--clip", guides.clip, "--sampler", "ddpm", "--call-size", 2]
    assert call(*flags, "--grid", "--out", tmp_path / "a") == 0
    recipe = read_recipe(tmp_path / "a/00002.png")
    assert recipe["guidance"] == [
        "cfg:3",
        "apg:2@0-90",
        "pag:2.5",
        "cads:0.2@80-100",
        "auto:2.5",
        "classifier:5@0-80",
        "clip:2.5@0-90",
    ]
    assert recipe["options"]["pag_layers"] == "middle,up.0" and set(recipe["guides"]) == {
        "weak",
        "classifier",
        "clip",
    }
    assert call("--trust-recipe", "--like", tmp_path / "a/00002.png", "--out", tmp_path / "b") == 0
    assert (tmp_path / "b/00000.png").read_bytes() == (tmp_path / "a/00002.png").read_bytes()
    assert call("--trust-recipe", "--like", tmp_path / "a/grid-00000.png", "--out", tmp_path / "c") == 0
    for name in pngs(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


@pytest.mark.slow
def test_like_with_a_strength_that_depends_on_the_timestep(text_folder: Path, tmp_path: Path) -> None:
    flags = ["--guidance", "cfg:0..5@10-99", "--guidance", "pag~exp:2", "--scale", 2, "--steps", 3]
    assert call("--model", text_folder, "--prompt", RED, *flags, "--out", tmp_path / "a") == 0
    first = tmp_path / "a/00000.png"
    assert read_recipe(first)["guidance"] == ["cfg:0..5@10-99", "pag:2~exp:2"]
    assert call("--trust-recipe", "--like", first, "--out", tmp_path / "b") == 0
    assert (tmp_path / "b/00000.png").read_bytes() == first.read_bytes()


@pytest.mark.slow
def test_like_with_another_guidance(text_folder: Path, guides: Options, tmp_path: Path) -> None:
    """Options of guidances that are no longer there are dropped; those for all stay."""
    first = tmp_path / "00000.png"
    flags = ["--guidance", "auto:2", "--guidance", "cfg", "--weak", guides.weak, "--rescale", 0.5]
    assert call("--model", text_folder, "--prompt", RED, *flags, "--out", tmp_path, *QUICK) == 0
    assert call("--trust-recipe", "--like", first, "--guidance", "cfg:5@0-80", "--out", tmp_path) == 0
    recipe = read_recipe(tmp_path / "00001.png")
    assert (recipe["guidance"], recipe["scale"], recipe["options"]) == ("cfg@0-80", 5.0, {"rescale": 0.5})
    assert (
        call("--trust-recipe", "--like", first, "--rescale", 0, "--guidance", "none", "--out", tmp_path) == 0
    )
    assert "options" not in read_recipe(tmp_path / "00002.png")


def test_recipes_of_the_first_version(text_folder: Path, tmp_path: Path) -> None:
    old = tmp_path / "00000.png"
    assert (
        call(
            "--model",
            text_folder,
            "--prompt",
            RED,
            "--scale",
            2,
            "--sampler",
            "ddim",
            "--out",
            tmp_path,
            *QUICK,
        )
        == 0
    )
    known = {
        "model",
        "weights",
        "prompt",
        "seed",
        "sampler",
        "respacing",
        "steps",
        "eta",
        "guidance",
        "scale",
    }
    known |= {"dtype", "call_size", "place", "version", "torch", "device", "threads", "cpu", "kernels", "gpu"}
    recipe = read_recipe(old)
    assert set(recipe) <= known and (recipe["guidance"], recipe["scale"]) == ("cfg", 2.0)
    assert call("--trust-recipe", "--like", old, "--out", tmp_path) == 0
    assert old.read_bytes() == (tmp_path / "00001.png").read_bytes()


@pytest.mark.slow
def test_like_needs_the_same_guides(
    text_folder: Path, guides: Options, tmp_path: Path, capsys: Capture
) -> None:
    assert guides.classifier is not None
    classifier = load_classifier(guides.classifier)
    save_classifier(tmp_path / "classifier", classifier)
    flags = ["--guidance", "classifier", "--classifier", tmp_path / "classifier", "--label", "star"]
    assert call("--model", text_folder, "--out", tmp_path / "o", *flags, *QUICK) == 0
    recipe = read_recipe(tmp_path / "o/00000.png")
    assert (recipe["prompt"], recipe["label"], recipe["class"]) == ("", 2, "star")
    save_classifier(tmp_path / "classifier", shaken(classifier))
    capsys.readouterr()
    refused(
        call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "o"),
        capsys,
        "give that one by --classifier",
    )
    assert pngs(tmp_path / "o") == ["00000.png"]


@pytest.mark.slow
def test_rerank(text_folder: Path, guides: Options, tmp_path: Path, capsys: Capture) -> None:
    flags: list[object] = ["--model", text_folder, "--prompt", RED, "--prompt", SQUARE, "--num-samples", 4]
    flags += ["--call-size", 2, *QUICK]
    assert call(*flags, "--out", tmp_path / "all") == 0
    rerank = ["--rerank", "clip", "--keep", 2, "--clip", guides.clip, "--grid", "--gif"]
    assert call(*flags, *rerank, "--out", tmp_path / "best") == 0
    assert "4 pictures in" in capsys.readouterr().out
    every = {p.read_bytes(): i for i, p in enumerate(sorted((tmp_path / "all").glob("0*.png")))}
    kept = [
        every[(tmp_path / f"best/{i:05d}.png").read_bytes()] for i in range(4)
    ]  # the pictures as they were
    assert all(i < 4 for i in kept[:2]) and all(i >= 4 for i in kept[2:]) and len(set(kept)) == 4
    assert load_image(tmp_path / "best/grid-00000.png").shape == (22, 22, 3)
    assert (
        call(
            "--trust-recipe", "--like", tmp_path / "best/grid-00000.png", "--out", tmp_path / "again", "--gif"
        )
        == 0
    )
    for name in pngs(tmp_path / "best"):
        assert (tmp_path / "best" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert call("--trust-recipe", "--like", tmp_path / "best/00001.png", "--out", tmp_path / "one") == 0
    assert (tmp_path / "one/00000.png").read_bytes() == (tmp_path / "best/00001.png").read_bytes()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--guidance cfg:3@800", "NAME:SCALE~SHAPE@FROM-TO"),
        ("--guidance cfg:3~sin", "the shape 'sin', expected cos or exp"),
        ("--guidance cfg:3~exp:0", "the rate 0.0, expected a finite number above 0"),
        ("--guidance cfg:1..", "a strength beside .. is missing"),
        ("--guidance cfg:x", "with the scale 'x', expected a number"),
        ("--guidance cfg:-2", "scale -2.0, expected a finite number from 0"),
        ("--guidance cfg:3 --guidance magic:2", "'magic', expected apg or auto or cads or cfg"),
        ("--guidance cfg:3 --scale 5", "guidances that all have their own"),
        ("--guidance cfg@90-10", "swap them"),
        ("--guidance auto", "give --weak NAME"),
        ("--guidance classifier --label 1", "got a classifier of 64x64 pixels for a model of 8x8"),
        ("--guidance clip", "got a CLIP of 64x64 pixels for a model of 8x8"),
        ("--guidance clip --clip nowhere/at/all", "nowhere/at/all"),
        (
            "--guidance classifier --classifier CLASSIFIER --label tench",
            "'tench', expected one of circle, square, star",
        ),
        ("--guidance classifier --classifier CLASSIFIER", "got no class"),
        ("--guidance classifier --classifier CLIP --label 1", "clip"),
        ("--clip CLIP", "which belongs to a guidance that was not asked for, expected --guidance clip"),
        ("--pag-layers middle", ""),  # as by default: harmless
        ("--pag-layers up.0", "expected --guidance pag"),
        ("--guidance pag --pag-layers top", "'top', expected some of"),
        ("--rescale 2", "--rescale 2.0"),
        ("--rescale x", "--rescale"),
        ("--rerank dalle --clip CLIP", "--rerank 'dalle', expected clip"),
        ("--keep 3", "without --rerank"),
        ("--rerank clip --clip CLIP --keep 3 --num-samples 2", "--keep 3 of --num-samples 2"),
        ("--vocab nowhere", "no published .pt file"),
    ],
)
def test_bad_flags(
    text_folder: Path, guides: Options, tmp_path: Path, capsys: Capture, flags: str, said: str
) -> None:
    for name in ("classifier", "clip"):
        flags = flags.replace(name.upper(), getattr(guides, name))
    command = ["--model", text_folder, "--prompt", RED, "--out", tmp_path / "o", *flags.split()]
    if not said:
        assert call(*command, *QUICK) == 0
        return
    refused(call(*command), capsys, said)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_captions_and_guides_that_do_not_fit(
    text_folder: Path, class_folder: Path, guides: Options, tmp_path: Path, capsys: Capture
) -> None:
    out = ["--out", tmp_path / "o"]
    long = " ".join(["circle"] * 30)
    clip = ["--clip", guides.clip]
    model = ["--model", text_folder, "--prompt", "", *clip, *out]
    refused(call(*model, "--rerank", "clip", "--guidance", "none"), capsys, "empty caption")
    refused(call(*model, "--guidance", "clip"), capsys, "empty caption")
    save_model(tmp_path / "free", Model(ModelConfig(tiny_unet(6), process=ProcessConfig(steps=100))))
    free = ["--model", tmp_path / "free", *out]
    refused(call(*free, "--prompt", long, *clip, "--guidance", "clip"), capsys, "longer than 12 tokens")
    refused(call(*free, "--prompt", long, *clip, "--rerank", "clip"), capsys, "longer than 12 tokens")
    refused(call(*free, "--prompt", RED), capsys, "without text")
    classifier = ["--guidance", "classifier", "--classifier", guides.classifier]
    refused(
        call("--model", class_folder, "--label", 0, *classifier, *out),
        capsys,
        "of 3 classes for a model of 5",
    )
    assert not (tmp_path / "o").exists()


def test_a_gradient_that_is_not_finite(
    text_folder: Path, guides: Options, tmp_path: Path, capsys: Capture
) -> None:
    assert guides.classifier is not None
    broken = load_classifier(guides.classifier)
    with torch.no_grad():
        next(broken.pool.parameters()).fill_(1e38)  # finite, and its products are not
    save_classifier(tmp_path / "broken", broken)
    flags = ["--guidance", "classifier", "--classifier", tmp_path / "broken", "--label", 1]
    assert call("--model", text_folder, *flags, "--out", tmp_path / "o", *QUICK) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "error: got a gradient that is not finite from LogLikelihood(classifier_log_prob) at"
    )
    assert pngs(tmp_path / "o") == []


@pytest.mark.slow
def test_recipes_that_are_damaged(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "00000.png"
    assert call("--model", text_folder, "--prompt", RED, "--out", tmp_path, *QUICK) == 0
    recipe: dict[str, Any] = read_recipe(picture)
    for wrong in ({"options": {"colour": 1}}, {"options": {"rescale": "x"}}, {"scale": None}, {"options": 3}):
        save_png(picture, load_image(picture), {**recipe, **wrong})
        capsys.readouterr()
        refused(call("--trust-recipe", "--like", picture, "--out", tmp_path), capsys, "the recipe in")


# --- plug-ins of other packages -------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as pip leaves it: a module, and the entry points of its distribution."""
    site = tmp_path / "site"
    info = site / "lanterns-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "lanterns.py").write_text(
        "from guidance import LogLikelihood\n"
        "def bright(x, t):\n    return x.mean(dim=(1, 2, 3))\n"
        "def make(subject, scale, interval):\n    return LogLikelihood(bright, scale, interval)\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lanterns\nVersion: 1.0\n")
    points = {"lamp": "lanterns:make", "cfg": "lanterns:make", "broken": "nowhere:make"}
    lines = [f"{name} = {where}\n" for name, where in points.items()]
    (info / "entry_points.txt").write_text("".join(["[glide.guidance]\n", *lines]))
    monkeypatch.syspath_prepend(site)
    known.cache_clear()
    plug_ins.cache_clear()
    yield site
    known.cache_clear()
    plug_ins.cache_clear()


@pytest.mark.slow
def test_help_lists_every_guidance(package: Path) -> None:
    """Those of other packages too, and imports none of them."""
    (package / "lanterns.py").write_text("raise SystemExit('imported')")
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, str(ROOT / "scripts/sample.py"), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert all(
        f"{name}:{named.scale:g}  " in done.stdout for name, named in built_in().items() if name != "none"
    )
    assert "lamp:1  of the package lanterns" in done.stdout
    assert "cfg:1" not in done.stdout  # a built-in name is not to be had


@pytest.mark.slow
def test_a_plug_in_of_another_package(
    package: Path, text_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--model", text_folder, "--prompt", RED, "--out", tmp_path / "o", *QUICK]
    lamp = ["--guidance", "lamp:900@50-99", "--guidance", "cfg:1", "--rescale", 0.2]
    assert call(*flags, *lamp) == call(*flags, "--guidance", "none") == 0
    pictures = [load_image(tmp_path / f"o/0000{i}.png").float().mean() for i in range(2)]
    assert pictures[0] > pictures[1] + 1
    assert read_recipe(tmp_path / "o/00000.png")["guidance"] == ["lamp:900@50-99", "cfg:1"]
    capsys.readouterr()
    refused(
        call(*flags, "--guidance", "broken"),
        capsys,
        "the guidance 'broken' cannot be loaded from nowhere:make",
    )


def test_a_model_without_a_vocabulary(text_model: Model, tmp_path: Path, capsys: Capture) -> None:
    save_model(tmp_path / "mute", Model(dataclasses.replace(text_model.config)))
    refused(call("--model", tmp_path / "mute", "--prompt", RED, "--out", tmp_path / "o"), capsys, "--vocab")
