"""Zip files as models: the model in them is the model in the folder, and a hostile or damaged zip is one sentence."""

import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from glide.checkpoints import zip_models
from glide.checkpoints.load import load_model, read_model_config
from glide.checkpoints.model_parts import part_or, with_part
from glide.checkpoints.names import resolve
from glide.checkpoints.provenance import fingerprint
from glide.checkpoints.zip_models import unpacked
from glide.networks.model import Model
from glide.utils.errors import InputError


def zipped(folder: Path, target: Path, below: str = "") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, below + path.relative_to(folder).as_posix())
    return target


@pytest.mark.parametrize("below", ["", "mine/"])
def test_a_zip_is_the_folder_in_it(text_folder: Path, text_model: Model, tmp_path: Path, below: str) -> None:
    path = zipped(text_folder, tmp_path / "m.zip", below)
    found = load_model(path)
    assert fingerprint(found) == fingerprint(text_model)
    assert found.tokenizer is not None and read_model_config(path) == text_model.config
    assert resolve(path) == resolve(path)  # unpacked once


def test_only_files_of_a_model_are_unpacked(text_folder: Path, tmp_path: Path) -> None:
    path = zipped(text_folder, tmp_path / "m.zip", "m/")
    with zipfile.ZipFile(path, "a") as file:
        for name in (
            "m/state.pt",
            "m/run.py",
            "m/.hidden/x.json",
            "m/checkpoints/config.json",
            "m/a/b/c/d.json",
        ):
            file.writestr(name, b"{}")
        file.writestr("__MACOSX/m/config.json", b"{}")
        file.writestr("m/first_stage/config.json", b"{}")
    names = {p.relative_to(unpacked(path)).as_posix() for p in unpacked(path).rglob("*") if p.is_file()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "first_stage/config.json"}


def test_it_is_kept_in_the_cache(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    path = zipped(text_folder, tmp_path / "m.zip")
    folder = unpacked(path)
    assert folder.parent == tmp_path / "cache" / "zips"
    os.utime(folder / "config.json", (0, 0))
    assert unpacked(path) == folder and (folder / "config.json").stat().st_mtime == 0
    zipped(text_folder, path, "changed/")
    assert unpacked(path) != folder


def test_further_networks_bear_the_name_of_the_model(
    text_folder: Path, upsampler_folder: Path, upsampler_model: Model, tmp_path: Path
) -> None:
    path = zipped(text_folder, tmp_path / "m.zip")
    with zipfile.ZipFile(path, "a") as file:
        for one in upsampler_folder.iterdir():
            file.write(one, f"upsampler/{one.name}")
    inner = with_part(path, "upsampler")
    assert inner is not None and fingerprint(load_model(inner)) == fingerprint(upsampler_model)
    assert with_part(path, "clip") is None and part_or(str(path), "clip") == str(path)
    assert with_part(text_folder, "upsampler") is None and with_part("shapes", "upsampler") is None


def entry(name: str, kind: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o644) << 16
    return info


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _flip(path: Path) -> None:
    """Change a byte of the weights, which are stored as they are: only the checksum can see it."""
    data = bytearray(path.read_bytes())
    data[data.index(b"model.safetensors") + 3000] ^= 1
    path.write_bytes(data)


def _encrypt(path: Path) -> None:
    """Set the bit that says so in the table at the end."""
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 8
    data[place : place + 2] = struct.pack("<H", 1)
    path.write_bytes(data)


HOSTILE: dict[str, tuple[Callable[[zipfile.ZipFile], object], str]] = {
    "above": (
        lambda f: f.writestr(entry("../evil.json"), b"{}"),
        "named '../evil.json', expected only names inside",
    ),
    "deep above": (lambda f: f.writestr(entry("a/../../evil.json"), b"{}"), "expected only names inside"),
    "absolute": (lambda f: f.writestr(entry("/etc/evil.json"), b"{}"), "expected only names inside"),
    "drive": (lambda f: f.writestr(entry("C:/evil.json"), b"{}"), "expected only names inside"),
    "backslash": (lambda f: f.writestr(entry("..\\evil.json"), b"{}"), "expected only names inside"),
    "control": (lambda f: f.writestr(entry("a\x1b[2J.json"), b"{}"), "expected only names inside"),
    "link": (
        lambda f: f.writestr(entry("first_stage", stat.S_IFLNK), b"/etc"),
        "'first_stage', which is a link or a device",
    ),
    "pipe": (lambda f: f.writestr(entry("x.json", stat.S_IFIFO), b""), "a link or a device"),
    "twice": (
        lambda f: f.writestr(entry("CONFIG.json"), b"{}"),
        "two files 'config.json', expected each name once",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused(text_folder: Path, tmp_path: Path, name: str) -> None:
    path = zipped(text_folder, tmp_path / "m.zip")
    add, said = HOSTILE[name]
    with zipfile.ZipFile(path, "a") as file:
        add(file)
    before = sorted(p.name for p in tmp_path.iterdir())
    with pytest.raises(InputError, match=said.replace("..", r"\.\.")):
        load_model(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_cut, "is no zip or is damaged or cut short"),
        (_flip, "damaged or cut short .*CRC"),
        (_encrypt, "is encrypted"),
        (lambda path: path.write_bytes(b"no zip"), "is no zip or is damaged"),
        (lambda path: path.write_bytes(b""), "is no zip or is damaged"),
    ],
)
def test_a_damaged_zip_leaves_nothing(
    text_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], object],
    said: str,
) -> None:
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w") as file:
        for one in text_folder.iterdir():
            file.write(one, one.name)
    change(path)
    with pytest.raises(InputError, match=said):
        load_model(path)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache" / "zips").iterdir())


def test_no_model_or_several(text_folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as file:
        file.writestr("notes/README.md", b"hello")
    with pytest.raises(InputError, match="with no model, expected one model folder"):
        load_model(tmp_path / "none.zip")
    two = zipped(text_folder, tmp_path / "two.zip", "a/")
    with zipfile.ZipFile(two, "a") as file:
        file.write(text_folder / "config.json", "b/config.json")
    with pytest.raises(InputError, match="with models in a, b, expected one"):
        load_model(two)
    with pytest.raises(InputError, match=r"there is no file .*gone\.zip"):
        load_model(tmp_path / "gone.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as file:
        file.writestr("config.json", b'{"model_type": "bert"}')
    with pytest.raises(InputError, match="not this toolkit's"):
        load_model(tmp_path / "other.zip")


def test_sizes_are_checked_before_anything_is_written(
    text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "GLIDE_CACHE", str(tmp_path / "cache")
    )  # else another test may have unpacked the same zip
    monkeypatch.setattr(zip_models, "FREE_BYTES", 1000)
    monkeypatch.setattr(zip_models, "MAX_RATIO", 4)
    bomb = zipped(text_folder, tmp_path / "bomb.zip")
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("first_stage/model.safetensors", bytes(20_000_000))
    with pytest.raises(InputError, match="whose weights hardly shrink"):
        load_model(bomb)
    monkeypatch.setattr(zip_models, "MAX_SETTINGS", 10)
    with pytest.raises(InputError, match=r"'config\.json' of .* bytes, expected at most 10"):
        load_model(zipped(text_folder, tmp_path / "large.zip"))
    monkeypatch.setattr(zip_models, "MAX_SETTINGS", 2**28)
    monkeypatch.setattr(zip_models, "MARGIN", 2**62)
    with pytest.raises(InputError, match="expected at least as much room"):
        load_model(zipped(text_folder, tmp_path / "full.zip"))
    monkeypatch.setattr(zip_models, "MAX_FILES", 2)
    with pytest.raises(InputError, match="with 3 files, expected at most 2"):
        load_model(zipped(text_folder, tmp_path / "many.zip"))


def test_a_member_longer_than_it_says_is_refused(text_folder: Path, tmp_path: Path) -> None:
    path = zipped(text_folder, tmp_path / "m.zip")
    with zipfile.ZipFile(path) as file:
        found = zip_models.check_members(file, path)
        one = found["config.json"]
        one.file_size -= 1
        with pytest.raises((zipfile.BadZipFile, InputError)):
            zip_models._write(file, one, tmp_path / "config.json")


def test_weights_are_the_same_bit_for_bit(text_folder: Path, tmp_path: Path) -> None:
    a, b = load_model(text_folder), load_model(zipped(text_folder, tmp_path / "m.zip"))
    assert all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )
