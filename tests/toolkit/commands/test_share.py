"""Sharing: nothing local leaves, a zip and the hub give the same pictures, and bad input is one sentence."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import share as script  # scripts/share.py
from PIL import Image

from glide.checkpoints.load import load_model, save_model
from glide.checkpoints.model_folder import read_config
from glide.checkpoints.provenance import fingerprint
from glide.networks.model import Model
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from guidance.classifier.load import save_classifier
from support.hub_server import TOKEN, Hub, commit_of, local_hub
from support.latent import latent_classifier, latent_model
from support.paths import ROOT
from support.scripts import call
from toolkit import Pipeline
from toolkit.commands.share import share
from toolkit.commands.share_flags import Share

HOME = "/home/someone/private"
TRAINING = {
    "command": f"python scripts/train_base.py --data {HOME}/photos --out {HOME}/runs/one --steps 100",
    "data": f"{HOME}/photos",
    "out": f"{HOME}/runs/one",
    "init": None,
    "step": 100,
    "train": {"batch_size": 4},
}
QUICK = ("--steps", "3", "--samples", "2", "--device", "cpu")


def pixels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.array(picture)


@pytest.fixture(scope="module")
def run(text_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training whose data were in a home, with its checkpoints, log and figures."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    save_model(folder, text_model, TRAINING)
    config = folder / "config.json"
    record = json.loads(config.read_text())
    config.write_text(json.dumps({**record, "training": TRAINING}))  # as an older version may have left it
    (folder / "checkpoints" / "step-0000100").mkdir(parents=True)
    (folder / "checkpoints" / "step-0000100" / "state.pt").write_bytes(b"state")
    (folder / "samples").mkdir()
    (folder / "samples" / "0000100.png").write_bytes(b"png")
    lines = [{"step": 50, "images_per_second": 2.0}, {"step": 100, "images_per_second": 1.0}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    figures = {"step": 100, "captions_right": 0.25, "captions_right_low": 0.1, "captions_right_high": 0.5}
    figures |= {"memorised": 0.5, "memorised_low": 0.4, "memorised_high": 0.6, "seconds": 3.0}
    (folder / "evaluation.jsonl").write_text(json.dumps(figures) + "\n")
    return folder


@pytest.fixture(scope="module")
def shared(run: Path, upsampler_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zips") / "mine.zip"
    flags = ("--prompt", "a red circle", "--licence", "mit", "--upsampler", upsampler_folder)
    assert call(script, run, "--zip", path, *flags, *QUICK) == 0
    return path


@pytest.fixture(scope="module")
def opened(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("opened")
    with zipfile.ZipFile(shared) as file:
        file.extractall(folder)
    return folder / "mine"


def test_it_holds_the_model_s_own_files_alone(opened: Path, text_model: Model) -> None:
    names = sorted(p.relative_to(opened).as_posix() for p in opened.rglob("*") if p.is_file())
    model = ["config.json", "model.safetensors", "tokenizer.json"]
    samples = [f"samples/{i:05d}.png" for i in range(3)]
    assert names == sorted(["README.md", *model, *samples, *(f"upsampler/{name}" for name in model)])
    assert fingerprint(load_model(opened)) == fingerprint(text_model)


def test_nothing_local_leaves(opened: Path, run: Path) -> None:
    private = re.compile(rb"someone|private|/home|/tmp|" + re.escape(str(run.parent).encode()))
    for path in opened.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert not private.search(path.read_bytes()), path
            assert path.suffix != ".png" or not private.search(json.dumps(read_recipe(path)).encode())
    training = read_config(opened)["training"]
    assert training["command"] == "python scripts/train_base.py --data photos --out one --steps 100"
    assert training["data"] == "photos" and TRAINING["data"] == f"{HOME}/photos"


def test_its_card_has_what_was_measured(opened: Path) -> None:
    card = (opened / "README.md").read_text()
    assert "license: mit" in card and "`photos`." in card
    assert "100 steps of 4 pictures, about 5 minutes." in card  # 200 pictures at 2 a second, 200 at 1
    assert "| captions drawn recognisably | 25.0% (10.0% to 50.0%) |" in card
    assert "50.0% (40.0% to 60.0%)" in card.partition("## Memorisation")[2]
    assert "![a red circle](samples/00002.png)" in card and '--prompt "a red circle" --size 32' in card


def test_the_same_folder_gives_the_same_zip(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        assert call(script, run, "--zip", tmp_path / name / "m.zip", "--samples", "0") == 0
    assert (tmp_path / "a" / "m.zip").read_bytes() == (tmp_path / "b" / "m.zip").read_bytes()


DRAW = """
import sys
from toolkit import Pipeline
pipe = Pipeline.from_pretrained(sys.argv[1], device="cpu", dtype="float32")
result = pipe("a red circle", seed=5, num_inference_steps=4)
result.images[0].save("picture.png")
print(result.recipes[0]["model"], result.recipes[0].get("commit"))
"""


def fresh(folder: Path, *words: object, **env: str) -> subprocess.CompletedProcess[str]:
    """A new process in a new folder, with nothing of this one but the code."""
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=folder, env={**own, **env}, capture_output=True, text=True
    )


def test_a_fresh_process_draws_the_same_bits(run: Path, shared: Path, tmp_path: Path) -> None:
    done = fresh(tmp_path, "-c", DRAW, shared)
    assert done.returncode == 0, done.stderr
    pipe = Pipeline.from_pretrained(run, device="cpu", dtype="float32")
    expected = pipe("a red circle", seed=5, num_inference_steps=4).images[0]
    assert np.array_equal(pixels(tmp_path / "picture.png"), np.array(expected))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["picture.png"]


def test_samples_are_drawn_again_from_the_zip(shared: Path, opened: Path, tmp_path: Path) -> None:
    import sample

    like = opened / "samples" / "00000.png"
    out = tmp_path / "out"
    assert call(sample, "--model", shared, "--like", like, "--out", out) == 0
    assert np.array_equal(pixels(out / "00000.png"), pixels(like))
    large = opened / "samples" / "00002.png"
    flags = ("--model", shared, "--like", large, "--upsampler", shared, "--out", out)
    assert call(sample, *flags) == 0
    assert pixels(large).shape == (32, 32, 3)
    assert np.array_equal(pixels(out / "00001.png"), pixels(large))


HUB = """
import json, sys
from glide.utils.errors import InputError
from glide.utils.hub_upload import check_before_upload
from toolkit import Pipeline
from toolkit.commands.share import share
from toolkit.commands.share_flags import Share
run, first = sys.argv[1:]
said = []
def tried(work):
    try:
        said.append(str(work()))
    except InputError as error:
        said.append(str(error))
flags = {"samples": 0, "device": "cpu", "licence": "mit"}
tried(lambda: share(Share(run, to="me/one", **flags)))
tried(lambda: share(Share(run, to="me/one", **flags)))
pipe = Pipeline.from_pretrained(run, device="cpu", dtype="float32")
tried(lambda: pipe.push_to_hub("me/one"))
tried(lambda: pipe.push_to_hub("one", overwrite=True, licence="mit"))
for name in ("me/missing", "me/gated", "me/bert", "me/text", "me/one@nowhere"):
    tried(lambda: Pipeline.from_pretrained(name))
tried(lambda: check_before_upload("me/new", token="wrong"))
recipes = []
for revision in (None, first):
    pipe = Pipeline.from_pretrained("me/one", device="cpu", dtype="float32", revision=revision)
    recipes.append(pipe("a red circle", seed=5, num_inference_steps=4).recipes[0])
print(json.dumps({"said": said, "recipes": recipes, "weights": pipe.fingerprint}))
"""


@pytest.fixture(scope="module")
def at_hub(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Hub, dict[str, Any], list[str]]:
    """All that is pushed and fetched, by the real huggingface_hub against a server on this machine."""
    folder = tmp_path_factory.mktemp("hub")
    with local_hub() as hub:
        config = (run / "config.json").read_bytes()
        hub.commit("me/gated", {"config.json": config})
        hub.gated.add("me/gated")
        hub.commit("me/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights"})
        hub.commit("me/text", {"README.md": b"hello"})
        env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": TOKEN}
        env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = fresh(folder, "-c", HUB, run, commit_of("me/one", 0), **env)
        assert done.returncode == 0, done.stderr
        return hub, json.loads(done.stdout.splitlines()[-1]), list(hub.fetched)


AtHub = tuple[Hub, dict[str, Any], list[str]]


def test_it_is_pushed_whole_and_replaces_nothing_unasked(at_hub: AtHub) -> None:
    hub, found, _ = at_hub
    said = found["said"]
    assert said[0] == "None"
    for refused in said[1:3]:
        assert refused.startswith("got me/one, which holds 4 files on the hub already")
    assert said[3].startswith(f"{hub.address}/me/one/commit/")
    commits = hub.repos["me/one"]
    assert [sorted(files) for _, files in commits] == [
        ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    ] * 2
    for _, files in commits:
        assert b"someone" not in files["config.json"] and b"license: mit" in files["README.md"]


def test_it_is_fetched_and_its_commit_recorded(at_hub: AtHub, run: Path) -> None:
    _, found, fetched = at_hub
    newest, first = found["recipes"]
    assert newest["model"] == "me/one" and newest["commit"] == commit_of("me/one", 1)
    assert first["model"] == f"me/one@{commit_of('me/one', 0)}" and first["commit"] == commit_of("me/one", 0)
    assert newest["weights"] == first["weights"] == found["weights"] == fingerprint(load_model(run))
    # of each repository that can be read its own files alone, and no card
    assert sorted(set(fetched)) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert fetched.count("model.safetensors") <= 2


def test_what_cannot_be_fetched_is_said_in_a_sentence(at_hub: AtHub) -> None:
    missing, gated, bert, text, revision = at_hub[1]["said"][4:9]
    assert missing.startswith(
        "got me/missing, expected a folder here or a model of the hub, which has none of"
    )
    assert gated.startswith("got me/gated, which the hub gives only to those who accepted its conditions")
    assert bert.startswith(
        "got me/bert of the hub, which holds the config.json of 'bert', expected a diffusion"
    )
    assert text.startswith("got me/text of the hub, which holds no config.json, expected a diffusion model")
    assert revision.startswith("got the revision 'nowhere' of me/one, expected a branch, a tag or a commit")


def test_who_is_not_logged_in_is_refused_before_the_drawing(at_hub: AtHub) -> None:
    hub, found, _ = at_hub
    assert found["said"][-1].startswith("the hub did not take me/new (Invalid user token")
    assert "me/new" not in hub.repos


def test_a_model_of_classes_and_its_guides(class_folder: Path, tmp_path: Path) -> None:
    classifier = latent_classifier(latent_model())
    save_classifier(tmp_path / "judge", classifier)
    path = tmp_path / "m.zip"
    assert (
        call(
            script,
            class_folder,
            "--zip",
            path,
            "--classifier",
            tmp_path / "judge",
            "--weak",
            class_folder,
            *QUICK,
        )
        == 0
    )
    with zipfile.ZipFile(path) as file:
        names, card = file.namelist(), file.read("m/README.md").decode()
    assert {"m/classifier/config.json", "m/classifier/first_stage/config.json", "m/weak/config.json"} <= {
        *names
    }
    assert "--guidance classifier --classifier m.zip" in card and "| apple | banana |" in card
    assert "Unknown: its author has not named one" in card


def test_latents_bring_their_autoencoder(tmp_path: Path) -> None:
    model = latent_model()
    save_model(tmp_path / "run", model)
    assert (
        call(script, tmp_path / "run", "--zip", tmp_path / "m.zip", "--prompt", "a red circle", *QUICK) == 0
    )
    found = load_model(tmp_path / "m.zip")
    assert fingerprint(found) == fingerprint(model) and found.config == model.config


def test_an_automatic_training_s_model_is_found(text_folder: Path, tmp_path: Path) -> None:
    for path in text_folder.iterdir():
        (tmp_path / "auto" / "model").mkdir(parents=True, exist_ok=True)
        (tmp_path / "auto" / "model" / path.name).write_bytes(path.read_bytes())
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    report = {"drawn": 8, "drawn_new": 0, "pictures": 30, "figures": {"memorised_colours": figure}}
    (tmp_path / "auto" / "report.json").write_text(json.dumps(report))
    share(Share(str(tmp_path / "auto"), zip=tmp_path / "m.zip", samples=0))
    with zipfile.ZipFile(tmp_path / "m.zip") as file:
        assert "| 50.0% (40.0% to 60.0%) |" in file.read("m/README.md").decode()


def test_figures_of_an_evaluation(class_folder: Path, work_folder: Path) -> None:
    near = {"value": 0.05, "low": 0.01, "high": 0.2}
    figure = {
        "label": "Fréchet distance",
        "better": "lower",
        "value": 12.5,
        "low": 11.0,
        "high": 14.0,
        "real": None,
    }
    one = {
        "name": f"inception:{HOME}/pt_inception.pth",
        "figures": {"frechet": figure},
        "memorisation": {"near": near},
    }
    table = {
        "generated": {"pictures": 100, "name": HOME},
        "data": {"pictures": 200, "name": HOME},
        "features": [one],
    }
    Path("evaluation.json").write_text(json.dumps(table))
    share(Share(str(class_folder), zip=Path("m.zip"), samples=0, figures=Path("evaluation.json")))
    with zipfile.ZipFile("m.zip") as file:
        card = file.read("m/README.md").decode()
    assert "| Fréchet distance | 12.5 (11 to 14) |" in card and "someone" not in card
    assert (
        "Of 100 drawn pictures against 200 real ones, in the features of inception:pt_inception.pth." in card
    )
    assert "| 5.0% (1.0% to 20.0%) |" in card.partition("## Memorisation")[2]


def test_bad_input_is_said_in_a_sentence(run: Path, text_folder: Path, work_folder: Path) -> None:
    (work_folder / "taken.zip").write_bytes(b"mine")
    (work_folder / "training" / "checkpoints").mkdir(parents=True)
    (work_folder / "empty").mkdir()
    cases = {
        (run,): "got neither --to nor --zip, expected one of them",
        (run, "--zip", "a.zip", "--to", "me/x"): "got --to and --zip",
        (run, "--to", "x"): "got --to x, expected a name of the hub",
        (run, "--to", "me/x@main"): "got --to me/x@main",
        (run, "--zip", "a.tar"): "expected a name that ends in .zip",
        (run, "--zip", "taken.zip"): "taken.zip exists already",
        ("nowhere", "--zip", "a.zip"): "got nowhere, which is no folder",
        ("empty", "--zip", "a.zip"): "got empty, which holds no trained model",
        ("training", "--zip", "a.zip"): "a training that has not written its model yet",
        (run, "--zip", "a.zip"): "got no captions for the samples",
        (run, "--zip", "a.zip", "--upsampler", text_folder): "which draws and does not enlarge",
        (run, "--zip", "a.zip", "--clip", text_folder): "expected a clip model",
        (run, "--zip", "a.zip", "--samples", "0", "--figures", run / "config.json"): "without the figures",
    }
    for flags, said in cases.items():
        with pytest.raises(InputError, match=re.escape(said)):
            script.main([str(flag) for flag in flags])
    assert (work_folder / "taken.zip").read_bytes() == b"mine" and not (work_folder / "a.zip").exists()
    script.main([str(run), "--zip", "taken.zip", "--samples", "0", "--overwrite"])
    assert zipfile.is_zipfile("taken.zip")
