"""Checkpoint files: read without ever running code in them, refused in one sentence, converted by the script."""

import json
import os
import pickle
import runpy
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from glide.checkpoints import state_dicts as state_dicts
from glide.checkpoints.load import load_model, load_with_vocabulary, read_model_config, save_model
from glide.checkpoints.openai.convert import from_state_dict, load
from glide.checkpoints.openai.options import complete, model_config
from glide.checkpoints.openai.releases import PUBLISHED
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.utils.errors import InputError
from support.openai_nets import ROOT, TINY, golden, same_weights, tiny_state


@pytest.mark.parametrize("archive", [True, False])
def test_load_reads_both_file_formats(tmp_path: Path, archive: bool) -> None:
    path = tmp_path / "model.pt"
    torch.save(tiny_state(), path, _use_new_zipfile_serialization=archive)
    model = load(path, TINY)
    assert same_weights(model, from_state_dict(tiny_state(), TINY))
    path.write_bytes(b"")  # nothing stays mapped to the file
    assert same_weights(model, from_state_dict(tiny_state(), TINY)) and model.tokenizer is None


def test_load_reads_remote_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(tiny_state(), tmp_path / "model.pt")
    content = (tmp_path / "model.pt").read_bytes()
    asked = []
    monkeypatch.setattr(state_dicts, "read_bytes", lambda path: asked.append(path) or content)
    monkeypatch.setattr(state_dicts, "file_stamp", lambda path: (len(content), ""))
    assert same_weights(load("gs://bucket/model.pt", TINY), from_state_dict(tiny_state(), TINY))
    assert asked == ["gs://bucket/model.pt"]


def test_load_by_the_published_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "64x64_diffusion.pt", complete(TINY))
    torch.save(tiny_state(), tmp_path / "64x64_diffusion.pt")
    assert load(tmp_path / "64x64_diffusion.pt").config == model_config(TINY)


def vocabulary(folder: Path) -> Path:
    folder.mkdir()
    folder.joinpath("vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2}))
    folder.joinpath("merges.txt").write_text("#version: 0.2\na b\n")
    return folder


def test_the_vocabulary_comes_with_the_model(tmp_path: Path) -> None:
    options, state, _ = golden("glide_base")
    state = dict(state)
    vocab = vocabulary(tmp_path / "vocab")
    torch.save(state, tmp_path / "small.pt")
    with pytest.raises(InputError, match="50257 tokens, the model 300"):
        load(tmp_path / "small.pt", options, str(vocab))
    state["token_embedding.weight"] = torch.zeros(50257, 64, dtype=torch.float16)
    torch.save(state, tmp_path / "model.pt")
    model = load(tmp_path / "model.pt", options | {"n_vocab": 50257}, str(vocab))
    batch = model.caption_batch(["ab", ""])
    assert batch["tokens"].shape == (2, 16) and batch["tokens"][0, 0] == 2
    assert batch["mask"].sum(1).tolist() == [1, 0]
    with pytest.raises(InputError, match="takes no captions"):
        load(tmp_path / "model.pt", TINY, str(vocab))


class Code:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["archive", "legacy", "pickle"])
def test_code_in_a_file_is_never_run(tmp_path: Path, kind: str) -> None:
    path, marker = tmp_path / "base.pt", tmp_path / "executed"
    content = {**tiny_state(), "code": Code(marker)}
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"code": Code(marker)}))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "archive")
    expected = "nothing in it was run" if kind == "pickle" else "can run code, so it was not loaded"
    with pytest.raises(InputError, match=expected):
        load(path)
    assert not marker.exists()


def broken_files(folder: Path) -> dict[str, Path]:
    """Files that are no published checkpoint, by what is wrong with them."""
    good = folder / "good.pt"
    torch.save(tiny_state(), good)
    content = good.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    contents = {
        "empty": b"",
        "cut": content[: len(content) // 2],
        "flipped": bytes(flipped),
        "noise": torch.randint(256, (999,), generator=torch.Generator().manual_seed(1)).numpy().tobytes(),
        "page": b"<html>404</html>",
    }
    for name, data in contents.items():
        (folder / f"{name}.pt").write_bytes(data)
    torch.save([torch.zeros(2)], folder / "list.pt")
    torch.save({"weights": tiny_state(), "step": 3}, folder / "nested.pt")
    with (
        zipfile.ZipFile(good) as source,
        zipfile.ZipFile(folder / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in source.namelist():
            packed.writestr(member, source.read(member))
    torch.save(torch.nn.Linear(2, 2), folder / "module.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        torch.jit.script(torch.nn.Linear(2, 2)).save(folder / "script.pt")
    return {path.stem: path for path in folder.glob("*.pt") if path != good}


def test_broken_files_are_refused_in_one_sentence(tmp_path: Path) -> None:
    expected = dict.fromkeys(
        ("empty", "cut", "flipped", "noise", "page", "packed"), "is damaged, or no PyTorch file"
    )
    expected |= {"list": "holds a list", "nested": "unexpected: weights, step", "module": "can run code"}
    expected["script"] = "is a TorchScript program"
    files = broken_files(tmp_path) | {"none": tmp_path / "none.pt", "folder": tmp_path}
    expected |= {"none": "No such file", "folder": "is not a regular file"}
    assert set(files) == set(expected)
    for kind, path in files.items():
        with pytest.raises(InputError) as error:
            load(path, TINY)
        message = str(error.value)
        assert expected[kind] in message and str(path) in message, kind
        assert message.count(". ") == 0 and "\n" not in message and len(message) < 500, message


@pytest.mark.slow
@pytest.mark.parametrize("archive", [True, False])
def test_state_dicts_as_people_save_them(tmp_path: Path, archive: bool) -> None:
    """Of DistributedDataParallel, of torch.compile, and inside a training checkpoint: read, and said."""
    state, path = tiny_state(), tmp_path / "mine.pt"
    ddp = {f"module.{name}": value for name, value in state.items()}
    both = {f"_orig_mod.module.{name}": value for name, value in state.items()}
    other = {name: value + 1 for name, value in state.items()}
    for content, said in (
        (ddp, r"without 'module\.' before"),
        (both, r"without '_orig_mod\.module\.' before"),
        ({"state_dict": state, "epoch": 3}, "from 'state_dict'$"),
        ({"model": state, "step": 5, "optimizer": {"state": {}}}, "from 'model'$"),
        ({"ema": state, "model": other}, "from 'ema'$"),
        ({"model": {"state_dict": ddp}}, r"from 'model' and from 'state_dict' and without 'module\.'"),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=archive)
        with pytest.warns(UserWarning, match=r"mine\.pt: the weights are read " + said):
            model = load(path, TINY)
        assert same_weights(model, from_state_dict(state, TINY))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        state = dict(tiny_state())
        state["out.2.bias"] = torch.full((6,), 0.5)
        state["out.2.bias"][3] = value
        torch.save(state, tmp_path / "mine.pt")
        with pytest.raises(InputError, match=r"mine\.pt: the weights unet\.head\.bias are not finite"):
            load(tmp_path / "mine.pt", TINY)
        model = Model(PRESETS["tiny"])
        with torch.no_grad():
            model.unet.head.bias[1] = value
        save_model(tmp_path / "m", model)
        with pytest.raises(
            InputError, match=r"model\.safetensors: the weights unet\.head\.bias are not finite"
        ):
            load_model(tmp_path / "m")


def test_a_renamed_file_is_known_by_its_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PUBLISHED, "64x64_diffusion.pt", complete(TINY))
    for name in ("mine.pt", "base.pt"):
        torch.save(tiny_state(), tmp_path / name)
        with pytest.warns(UserWarning, match=f"{name} has the tensors of 64x64_diffusion.pt, so"):
            assert load_model(tmp_path / name).config == model_config(TINY)
        with pytest.warns(UserWarning, match="has the tensors of"):
            assert read_model_config(tmp_path / name) == model_config(TINY)
    torch.save(golden("glide_base")[1], tmp_path / "mine.pt")
    with pytest.raises(InputError, match=r"mine\.pt do not follow from its name or its tensors"):
        load(tmp_path / "mine.pt")


@pytest.mark.parametrize("classes", [0, 7])
def test_a_fine_tune_for_other_classes_is_known_by_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    """Wrapped as training programs do it, too."""
    monkeypatch.setitem(PUBLISHED, "64x64_diffusion.pt", complete(TINY))
    state = dict(tiny_state())
    width = state.pop("label_emb.weight").shape[1]
    state |= {"label_emb.weight": torch.ones(classes, width)} if classes else {}
    torch.save(
        {"step": 3, "ema": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "a.pt"
    )
    with pytest.warns(UserWarning) as caught:
        model = load_model(tmp_path / "a.pt")
    words = f"has the tensors of 64x64_diffusion.pt with {classes or 'no'} classes"
    assert any(words in str(one.message) for one in caught)
    assert any("from 'ema' and without 'module.' before" in str(one.message) for one in caught)
    options = TINY | {"class_cond": classes > 0, "num_classes": classes or 1}
    assert same_weights(model, from_state_dict(state, options)) and model.config.num_classes == classes


def test_a_missing_file_is_reported_before_its_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*base\.pt"):
        load_with_vocabulary(tmp_path / "base.pt", torch.device("cpu"))


def convert(monkeypatch: pytest.MonkeyPatch, *args: object) -> int:
    monkeypatch.setattr("sys.argv", ["convert.py", *map(str, args)])
    monkeypatch.syspath_prepend(ROOT / "scripts")
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "scripts" / "convert.py"), run_name="__main__")
    return int(stop.value.code or 0)


@torch.no_grad()
def test_convert_writes_a_model_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options, state, batch = golden("glide_base")
    torch.save(state, tmp_path / "mine.pt")
    out = tmp_path / "models" / "mine"
    assert convert(monkeypatch, tmp_path / "mine.pt", "--out", out, "--options", json.dumps(options)) == 0
    assert "64 pixels, 1.0 million" in (said := capsys.readouterr().out) and "without --vocab" in said
    output = load_model(out)(batch["x"], batch["timesteps"], batch)
    assert float((output - batch["output"]).abs().max() / batch["output"].std()) <= 1e-5


def test_convert_reports_faults_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(tiny_state(), tmp_path / "mine.pt")
    for more in ([], ["--options", "image_size=64"], ["--options", "{"]):
        assert convert(monkeypatch, tmp_path / "mine.pt", "--out", tmp_path / "out", *more) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.pt"]


def test_convert_help_shows_commands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert(monkeypatch, "--help") == 0
    assert "python scripts/convert.py base.pt --vocab" in capsys.readouterr().out
