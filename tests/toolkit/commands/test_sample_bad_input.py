"""What the command line of sampling says of bad input: one sentence, exit code 2, nothing half-written."""

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
import torch

from glide.checkpoints.load import save_model
from glide.networks.model import Model
from glide.utils.cli import run
from glide.utils.errors import InputError
from glide.utils.images import save_png
from support.models import CAPTIONS
from support.sample_script import QUICK, Capture, call, pngs, refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--sampler magic", "got the sampler 'magic', expected ddim or ddpm or euler"),
        ("--sampler heun --eta 0.5", "eta 0.5 for the sampler heun, which has none"),
        ("--spacing even", "got the spacing 'even', expected uniform or quadratic"),
        (
            "--spacing karras --respacing fast27",
            "spacing 'karras' for the respacing 'fast27', expected a number",
        ),
        ("--spacing karras --steps 101", "got 101 steps, expected 1 to 100"),
        ("--guidance magic", "got the guidance 'magic', expected apg or auto"),
        ("--scale -1", "scale -1.0, expected a finite number from 0 to"),
        ("--scale nan", "scale nan"),
        ("--steps -5", "--steps -5, expected a whole number of at least 1"),
        ("--steps 0", "--steps 0, expected a whole number of at least 1"),
        ("--steps 1000", "1000 steps, expected 1 to 100"),
        ("--respacing ddim60", "whole stride"),
        ("--respacing ten", "'ten', expected a count"),
        ("--respacing 10,-1", "'10,-1'"),
        ("--steps 5 --respacing 5", "--steps and --respacing, expected one"),
        ("--eta 1.5", "eta 1.5"),
        ("--sampler ddpm --eta 0.5", "ddpm, which has none"),
        ("--seed -1", "--seed -1, expected a whole number of at least 0"),
        ("--seed x", "--seed"),
        ("--num-samples 0", "--num-samples 0"),
        ("--batch-size 0", "--batch-size 0"),
        ("--call-size 0", "--call-size 0"),
        ("--gif-frames all", "--gif-frames 'all'"),
        ("--dtype int8", "expected auto or float32 or bfloat16 or float16"),
        ("--device nowhere", "device 'nowhere'"),
        ("--label 3", "without classes"),
        ("--like nowhere.png", "nowhere.png"),
        ("--model nowhere/at/all", "nowhere/at/all"),
        ("--colour red", "--colour"),
        ("red", "red"),
        ("--prompt", "--prompt"),
    ],
)
def test_bad_flags(text_folder: Path, tmp_path: Path, capsys: Capture, flags: str, said: str) -> None:
    out = tmp_path / "out"
    prompt = [] if flags == "--prompt" else ["--prompt", CAPTIONS[0]]
    refused(call("--model", text_folder, *prompt, "--out", out, *flags.split()), capsys, said)
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--label", "aple"], "did you mean 'apple'?"),
        (["--label", "99"], "expected 0 to 4"),
        (["--prompt", "a red circle"], "without text"),
        (["--label", ""], "expected one of apple"),
    ],
)
def test_bad_classes(
    class_folder: Path, tmp_path: Path, capsys: Capture, flags: list[str], said: str
) -> None:
    refused(call("--model", class_folder, "--out", tmp_path / "o", *flags), capsys, said)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_bad_prompts_files(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "captions.txt"
    flags = ["--model", text_folder, "--out", tmp_path / "o", "--prompts-file", file]
    refused(call(*flags), capsys, "cannot read")
    file.write_bytes(b"caf\xe9")
    refused(call(*flags), capsys, "is not UTF-8 text")
    file.write_text("\n \n")
    refused(call(*flags), capsys, "no captions")
    refused(call(*flags, "--prompt", "x"), capsys, "--prompt and --prompts-file")


class Bomb:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_with_code_is_never_executed(tmp_path: Path, capsys: Capture) -> None:
    exploded = tmp_path / "exploded"
    for name, save in (
        ("torch.pt", torch.save),
        ("plain.pt", lambda x, path: path.write_bytes(pickle.dumps(x))),
    ):
        file = tmp_path / name
        save({"weight": Bomb(exploded)}, file)
        refused(call("--model", file, "--prompt", "x", "--out", tmp_path / "o"), capsys, name)
    assert not exploded.exists() and not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "other kind", "no config", "not json"])
def test_bad_checkpoints(text_model: Model, tmp_path: Path, capsys: Capture, damage: str) -> None:
    folder = tmp_path / "model"
    save_model(folder, text_model)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif damage == "empty":
        weights.write_bytes(b"")
    elif damage == "gone":
        weights.unlink()
    elif damage == "other kind":
        config.write_text(json.dumps({**json.loads(config.read_text()), "kind": "classifier"}))
    elif damage == "no config":
        config.unlink()
    else:
        config.write_text("{")
    refused(call("--model", folder, "--prompt", "x", "--out", tmp_path / "o"), capsys, "model")
    assert not (tmp_path / "o").exists()


def test_a_folder_that_cannot_be_written(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("in the way")
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], *QUICK]
    refused(call(*flags, "--out", tmp_path / "file"), capsys, "cannot write to")
    refused(call(*flags, "--out", tmp_path / "file/below"), capsys, "choose another folder")
    assert (tmp_path / "file").read_text() == "in the way"
    if Path("/proc/self").exists():  # where not even root may write
        refused(call(*flags, "--out", "/proc/pictures"), capsys, "cannot write to /proc/pictures (")


def test_no_space_left(
    text_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert call("--model", text_folder, "--prompt", CAPTIONS[0], "--out", tmp_path, *QUICK) == 2
    out, err = capsys.readouterr()
    assert out == "" and pngs(tmp_path) == []  # no picture, nothing half-written
    last = err.splitlines()[-1]
    assert "was not written (No space left on device)" in last


def test_a_recipe_that_is_incomplete(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = torch.zeros(8, 8, 3, dtype=torch.uint8)
    save_png(tmp_path / "a.png", picture, {"model": str(text_folder)})
    refused(call("--trust-recipe", "--like", tmp_path / "a.png"), capsys, "incomplete")
    save_png(tmp_path / "b.png", picture)
    refused(call("--trust-recipe", "--like", tmp_path / "b.png"), capsys, "no recipe")


# --- the frame around scripts ---------------------------------------------------------------------------------------


def ends_with(error: BaseException | None) -> int:
    def main() -> None:
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as end:
        run(main)
    assert isinstance(end.value.code, int)
    return end.value.code


def test_exit_codes(capsys: Capture) -> None:
    assert ends_with(None) == 0
    assert ends_with(InputError("got a,\n  expected b")) == 2
    assert ends_with(OSError(errno.ENOSPC, "No space left on device", "x.png")) == 2
    assert ends_with(KeyboardInterrupt()) == 130
    expected = "error: got a, expected b\nerror: x.png: No space left on device\ninterrupted\n"
    assert capsys.readouterr().err == expected
    with pytest.raises(ZeroDivisionError):  # a defect keeps its traceback
        ends_with(ZeroDivisionError())
