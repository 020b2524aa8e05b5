"""Published models from the command line: `glide cache`, `sample.py --model NAME`, two processes at once."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import cache as script  # scripts/cache.py
import numpy as np
import pytest
from PIL import Image

from glide.checkpoints.published import MODELS
from support.paths import ROOT
from support.published import Made, made_models
from support.sample_script import Capture, refused
from support.sample_script import call as sample
from support.scripts import call

TWO_STEPS = ("--steps", "2", "--device", "cpu", "--dtype", "float32")
AT_ONCE = """
import sys
from dataclasses import replace
sys.path[:0] = ["tests"]
from glide.checkpoints.published import MODELS, PublishedFile
from support.openai_nets import TINY
from toolkit.commands.main import dispatch
files = (PublishedFile(sys.argv[1]),)
MODELS["adm-64"] = replace(MODELS["adm-64"], weights=files, options=TINY, parameters=100_000)
dispatch(["sample", "--model", "adm-64", "--label", "1", "--guidance", "none", "--out", sys.argv[2], *sys.argv[3:]])
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.chdir(tmp_path)
    with made_models(monkeypatch, tmp_path / "cache") as made:
        yield made


def pixels(path: str) -> "np.ndarray":
    """uint8 [H,W,3] of a picture."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_fetch_list_and_remove(made: Made, capsys: Capture) -> None:
    made.adm()
    made.classifier()
    assert call(script, "list") == 0
    assert capsys.readouterr().out == f"{Path('cache').resolve()}: nothing\n"
    assert call(script, "fetch", "adm-64", "classifier-64") == 0
    assert f"classifier-64: {Path('cache/models/classifier-64').resolve()}\n" in capsys.readouterr().out
    (Path("cache/files") / "64x64_diffusion.pt").write_bytes(b"put there")
    (Path("cache/files") / "base.pt.part").write_bytes(b"half")
    (Path("cache/files") / "base.pt.part.json").write_text("{}")
    assert call(script) == 0
    said = capsys.readouterr().out
    assert [line.split()[0] for line in said.splitlines()[1:]] == [
        *("adm-64", "classifier-64", "64x64_diffusion.pt", "base.pt")
    ]
    assert "ADM, ImageNet, 64 pixels" in said and "half fetched, to be continued" in said
    assert call(script, "remove", "adm-64", "base.pt", "64x64_diffusion.pt") == 0
    assert "adm-64: " in capsys.readouterr().out
    assert [path.name for path in Path("cache/models").iterdir()] == ["classifier-64"]
    assert list(Path("cache/files").iterdir()) == []


def test_available_shows_sizes_addresses_and_licences(made: Made, capsys: Capture) -> None:
    assert call(script, "available") == 0
    said = capsys.readouterr().out
    for name, model in MODELS.items():
        assert f"\n{name} " in f"\n{said}" and all(file.url in said for file in model.files)
    assert "2,215 MB" in said and "about 1,540 MB" in said and said.count("licence: MIT") == 2


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("fetch",), "got fetch without a name"),
        (("list", "glide"), "got list with the name 'glide'"),
        (("remove", "glide"), "got 'glide', expected one of what is in"),
        (
            ("fetch", "adm-65"),
            "there is no published model 'adm-65', expected one of glide, glide-upsampler, ",
        ),
        (("fetch", "adm-65"), "did you mean 'adm-64'?"),
        (("empty",), "expected list or available or fetch or remove"),
    ],
)
def test_bad_input(made: Made, capsys: Capture, argv: tuple[str, ...], said: str) -> None:
    refused(call(script, *argv), capsys, said)
    assert not made.server.asked


@pytest.mark.slow
def test_glide_in_two_stages_comes_with_one_command(made: Made, capsys: Capture) -> None:
    made.glide()
    made.glide("glide-upsampler", "glide_upsampler")
    stages = (
        "--model",
        "glide",
        "--prompt",
        "ab",
        "--guidance",
        "none",
        "--upsample-steps",
        "1",
        "--out",
        "out",
    )
    refused(sample(*stages, "--size", "100", *TWO_STEPS), capsys, "expected 64 or 256: glide draws 64")
    assert not made.server.asked
    assert sample(*stages, "--size", "256", *TWO_STEPS) == 0
    said = capsys.readouterr().out
    assert said.startswith("glide and glide-upsampler are fetched once, ")
    assert pixels("out/00000.png").shape == (256, 256, 3)
    assert sorted(made.server.gets()) == [""] * 4
    made.server.asked.clear()
    assert call(script, "fetch", "glide", "glide-upsampler") == 0 and not made.server.asked


def test_a_classifier_of_that_name_steers(made: Made) -> None:
    """The file's sizes are those of the made diffusion model."""
    made.adm()
    made.classifier()
    steered = (
        "--model",
        "adm-64",
        "--label",
        "1",
        "--guidance",
        "classifier:1",
        "--classifier",
        "classifier-64",
    )
    assert sample(*steered, *TWO_STEPS) == 0
    assert len(made.server.gets()) == 2


@pytest.mark.slow
def test_two_processes_fetch_once_and_both_draw(made: Made) -> None:
    made.adm()
    hold = threading.Event()
    served = made.server.files["/64x64_diffusion.pt"]
    served.held_by = hold

    def start(out: str) -> "subprocess.Popen[str]":
        url = f"{made.server.url}/64x64_diffusion.pt"
        return subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, url, str(Path(out).resolve()), *TWO_STEPS],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "127.0.0.1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    both = [start("one"), start("two")]
    said: list[list[str]] = [[], []]
    waits = threading.Event()

    def read(i: int) -> None:
        for line in both[i].stdout or ():
            said[i].append(line)
            if "another process is fetching adm-64" in line:
                waits.set()

    readers = [threading.Thread(target=read, args=(i,)) for i in range(2)]
    for reader in readers:
        reader.start()
    try:
        assert waits.wait(300), said
        hold.set()
        for reader in readers:
            reader.join()
        assert [process.wait() for process in both] == [0, 0], said
    finally:
        hold.set()
        for process in both:
            process.kill()
            process.communicate()
    assert made.server.gets() == [""]
    assert np.array_equal(pixels("one/00000.png"), pixels("two/00000.png"))
