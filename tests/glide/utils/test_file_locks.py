"""Names of outputs: several processes at once, names that are taken, signals, file systems without hard links."""

import errno
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import sample as script
import torch

from glide.utils.cli import run
from glide.utils.errors import NameTaken
from glide.utils.file_locks import NumberedOutputs, names, next_number, write_beside
from glide.utils.images import load_image, read_recipe, save_png
from support.models import CAPTIONS
from support.sample_script import QUICK, ROOT, Capture, call, pngs


def picture(value: int) -> torch.Tensor:
    return torch.full((2, 2, 3), value, dtype=torch.uint8)


def add(folder: Path, run: int, pictures: int, suffix: str = "") -> None:
    outputs = NumberedOutputs(folder)
    for i in range(pictures):
        save = partial(save_png, image=picture(run), recipe={"run": run, "i": i}, replace=False)
        outputs.add(save, suffix)
    if suffix:
        for i, path in enumerate(list(outputs.paths)):
            outputs.complete(path, partial(save_png, image=picture(run), recipe={"run": run, "i": i}))


@pytest.mark.slow
@pytest.mark.parametrize("runs", [2, 4])
def test_every_picture_of_several_processes_is_there(tmp_path: Path, runs: int) -> None:
    fork = multiprocessing.get_context("fork")
    for _ in range(3):  # the folder fills up
        before = len(pngs(tmp_path))
        # those of the odd runs are enlarged: their numbers are held for the large ones
        begun = [
            fork.Process(target=add, args=(tmp_path, run, 12, "-2" if run % 2 else "")) for run in range(runs)
        ]
        for one in begun:
            one.start()
        for one in begun:
            one.join()
        assert [one.exitcode for one in begun] == [0] * runs
        assert len(pngs(tmp_path)) - before == 12 * (runs + runs // 2)
    told = [read_recipe(path) for path in tmp_path.glob("?????.png")]
    assert sorted((one["run"], one["i"]) for one in told) == sorted(
        (run, i) for run in range(runs) for i in range(12) for _ in range(3)
    )
    for small in tmp_path.glob("*-2.png"):  # a number is of one run
        assert read_recipe(small) == read_recipe(small.with_name(small.name.replace("-2", "")))


@pytest.mark.slow
def test_two_scripts_draw_into_one_folder(text_folder: Path, tmp_path: Path) -> None:
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], "--num-samples", 6, "--batch-size", 1, *QUICK]
    command = [sys.executable, ROOT / "scripts/sample.py", *flags, "--call-size", 1, "--out", tmp_path / "o"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [str(part) for part in (*command, "--seed", seed)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for seed in (0, 100)
    ]
    seeds = []
    for first, process in zip((0, 100), both, strict=True):
        out, err = process.communicate()
        assert process.returncode == 0, err
        spans = out.strip().rpartition(": ")[2].split(", ")
        for span in spans:
            ends = [int(number) for number in re.findall(r"(\d{5})\.png", span)]
            own = [read_recipe(tmp_path / f"o/{i:05d}.png")["seed"] for i in range(ends[0], ends[-1] + 1)]
            assert all(first <= seed < first + 6 for seed in own)  # the span that is printed is this run's
            seeds += own
    assert sorted(seeds) == [*range(6), *range(100, 106)] and len(pngs(tmp_path / "o")) == 12


def test_names_of_outputs() -> None:
    def said(*given: str) -> str:
        return names([Path("o") / name for name in given])

    assert said("00001.png") == "00001.png"
    assert said("00001.png", "00002.png", "00003.png") == "00001.png to 00003.png"
    assert said("00001.png", "00003.png", "00004.png") == "00001.png, 00003.png to 00004.png"
    assert said("00001-64.png", "00002-64.png", "00003.png") == "00001-64.png to 00002-64.png, 00003.png"
    assert said("99999.png", "100000.png") == "99999.png to 100000.png"
    assert said("a.png", "b.png") == "a.png, b.png"
    assert (
        said(*(f"{2 * i:05d}.png" for i in range(9))) == "00000.png to 00016.png, among files of other runs"
    )


def test_a_name_that_is_taken_is_never_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_text("mine")
    with pytest.raises(NameTaken, match=r"x\.png exists already: give another name, or --overwrite"):
        save_png(path, picture(1), replace=False)
    with pytest.warns(UserWarning, match=r"x\.png was written by another program .*x \(2\)\.png"):
        assert write_beside(path, partial(save_png, image=picture(1), replace=False)).name == "x (2).png"
    assert write_beside(tmp_path / "y.png", partial(save_png, image=picture(2), replace=False)).exists()

    def no_links(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links")

    monkeypatch.setattr(os, "link", no_links)  # as on FAT
    with pytest.raises(NameTaken):
        save_png(path, picture(1), replace=False)
    save_png(tmp_path / "z.png", picture(3), replace=False)
    assert load_image(tmp_path / "z.png")[0, 0, 0] == 3 and path.read_text() == "mine"
    assert pngs(tmp_path) == ["x (2).png", "x.png", "y.png", "z.png"]


def test_a_number_is_held_only_as_long_as_the_run(tmp_path: Path, capsys: Capture) -> None:
    save = partial(save_png, image=picture(1), replace=False)
    with pytest.raises(KeyboardInterrupt), NumberedOutputs(tmp_path) as outputs:
        outputs.add(save, "-2")
        outputs.add(save, "-2")
        outputs.complete(outputs.paths[0], partial(save_png, image=picture(2)))
        raise KeyboardInterrupt
    assert pngs(tmp_path) == ["00000-2.png", "00000.png", "00001-2.png"] and next_number(tmp_path) == 2
    assert load_image(tmp_path / "00000.png")[0, 0, 0] == 2
    said = "3 pictures in .*: 00000-2.png to 00001-2.png, 00000.png"
    assert re.search(said, capsys.readouterr().err)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_names_the_pictures_that_are_there(
    text_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    number = getattr(signal, name)
    written = iter(range(10))

    def write(path: Path, **given: object) -> None:
        save_png(path, **given)  # type: ignore[arg-type]
        if next(written) == 2:
            os.kill(os.getpid(), number)
            time.sleep(5)  # the signal comes in between

    before = signal.getsignal(number)
    monkeypatch.setattr("toolkit.commands.sample.save_png", write)
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], "--num-samples", 6, *QUICK]
    assert call(*flags, "--out", tmp_path / "o") == 128 + number
    assert signal.getsignal(number) is before
    out, err = capsys.readouterr()
    assert out == "" and pngs(tmp_path / "o") == ["00000.png", "00001.png", "00002.png"]
    last = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert err.splitlines()[-1] == last and err.splitlines()[-2].endswith("00000.png to 00001.png")


def test_a_full_disk_names_the_pictures_that_are_there(
    text_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = iter(range(10))
    sync = os.fsync

    def full(file: int) -> None:
        if next(flushed) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], "--num-samples", 6, *QUICK]
    assert call(*flags, "--out", tmp_path / "o") == 2
    assert pngs(tmp_path / "o") == ["00000.png", "00001.png"]
    err = capsys.readouterr().err.splitlines()
    assert "2 pictures in" in err[-2] and err[-2].endswith("00000.png to 00001.png")
    assert err[-1].startswith("error: ") and "was not written (" in err[-1]


def test_the_work_comes_before_the_words(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*said: object) -> None:
        raise RuntimeError("nothing can be printed")

    monkeypatch.setattr("toolkit.commands.sample.say", broken)
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], "--grid", "--gif", *QUICK]
    with pytest.raises(RuntimeError):
        run(lambda: script.main([str(flag) for flag in [*flags, "--out", tmp_path / "o"]]))
    assert pngs(tmp_path / "o") == ["00000.png", "grid-00000.gif", "grid-00000.png"]


@pytest.mark.slow
def test_a_console_that_lacks_the_characters(text_folder: Path, tmp_path: Path) -> None:
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], "--grid", "--out", tmp_path / "図", *QUICK]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/sample.py"), *map(str, flags)],
        env=os.environ | {"PYTHONIOENCODING": "cp1252", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and b"\\u56f3" in done.stdout, done.stderr
    assert pngs(tmp_path / "図") == ["00000.png", "grid-00000.png"]
    assert json.dumps(str(tmp_path))[1:-1] in done.stdout.decode("cp1252")
