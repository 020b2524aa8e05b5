"""What is installed and what is released: the wheel, the source distribution, and other packages of the same names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from glide.utils.installation import HOME, PACKAGES, check_packages
from glide.version import __version__
from support.paths import ROOT

NOT_RELEASED = (".ci/*", ".git*", ".github/*")


def tracked(*options: str) -> set[str]:
    """Files of the repository by `git ls-files`, relative to ROOT. Skips where there is no repository."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git repository here")
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}


def released(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Files of the source distribution by MANIFEST.in, as setuptools reads it."""
    egg_info = pytest.importorskip("setuptools.command.egg_info")
    monkeypatch.chdir(ROOT)
    found = egg_info.FileList()
    for line in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            found.process_template_line(line)
    return {Path(name).as_posix() for name in found.files}


def test_the_source_distribution_holds_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {name for name in tracked() if not any(fnmatch(name, pattern) for pattern in NOT_RELEASED)}
    found = released(monkeypatch)
    assert wanted - found == set()
    assert found - tracked("--cached", "--others", "--exclude-standard") == set()


def test_the_wheel_holds_every_file_of_the_packages() -> None:
    setuptools = pytest.importorskip("setuptools")
    wanted = {
        name
        for name in tracked(*PACKAGES)
        if not name.startswith("glide/networks/cpu/") or name[-3:] == ".py"
    }
    include = [f"{package}{below}" for package in PACKAGES for below in ("", ".*")]
    folders = [package.replace(".", "/") for package in setuptools.find_packages(str(ROOT), include=include)]
    modules = {f"{folder}/{path.name}" for folder in folders for path in (ROOT / folder).glob("*.py")}
    data = {name for name in wanted if fnmatch(name, "*/pretrained/*/*") or name.endswith("py.typed")}
    assert wanted - modules - data == set()
    text = (ROOT / "setup.py").read_text("utf-8")
    assert '["pretrained/*/*", "py.typed"]' in text and all(f'"{package}"' in text for package in PACKAGES)


def test_the_entry_point_is_there() -> None:
    assert "glide = toolkit.commands.main:main" in (ROOT / "setup.py").read_text("utf-8")


def test_the_packages_are_ours() -> None:
    check_packages(*PACKAGES)
    assert HOME == ROOT
    for name in PACKAGES:
        assert '\n__toolkit__ = "glide-toolkit"\n' in (ROOT / name / "__init__.py").read_text("utf-8")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The packages without their weights, in a folder of their own."""
    folder = tmp_path / "site-packages"
    for name in PACKAGES:
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("pretrained", "__pycache__", "*.so")
        )
    return folder


def said_by(code: str, *path: Path) -> str:
    """The last line that Python prints, with these folders first on its path."""
    code = f"import sys; sys.path[:0] = {list(map(str, path))}; {code}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path[0], capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


def other(folder: Path, name: str, text: str = "VERSION = 1\n") -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(text, "utf-8")
    return folder


def test_a_whole_installation_is_silent(installed: Path) -> None:
    code = "import toolkit, glide, guidance, upsampler; print(glide.__file__, glide.__version__)"
    assert said_by(code, installed) == f"{installed / 'glide' / '__init__.py'} {__version__}"


@pytest.mark.parametrize("name", ["guidance", "upsampler", "toolkit"])
@pytest.mark.parametrize("imported", ["glide", "guidance", "upsampler", "toolkit"])
def test_a_package_installed_over_ours(installed: Path, name: str, imported: str) -> None:
    other(installed, name)
    if imported == name:
        return  # theirs, of which nothing can be said here
    said = said_by(f"import {imported}", installed)
    assert said.startswith(f"ImportError: another package named {name} was installed over Glide Toolkit's")
    assert f"pip uninstall {name}" in said and "pip install --force-reinstall glide-toolkit" in said
    assert "an environment of its own" in said


@pytest.mark.parametrize("imported", ["guidance", "upsampler", "toolkit"])
@pytest.mark.parametrize("text", ["", "import consecution_that_is_not_there\n"])
def test_another_glide_installed_over_ours(installed: Path, imported: str, text: str) -> None:
    other(installed, "glide", text)
    said = said_by(f"import {imported}", installed)
    assert said.startswith("ImportError: ") and "another package named glide" in said
    assert "pip uninstall glide" in said and "pip install --force-reinstall glide-toolkit" in said


def test_a_package_uninstalled_again(installed: Path) -> None:
    (installed / "guidance/__init__.py").unlink()
    said = said_by("import toolkit", installed)
    assert "another package named guidance was installed over" in said and "--force-reinstall" in said


def test_a_package_that_hides_ours(installed: Path, tmp_path: Path) -> None:
    hiding = other(tmp_path / "other", "guidance")
    said = said_by("import toolkit", hiding, installed)
    assert f"another package named guidance, in {hiding / 'guidance'}, hides Glide Toolkit's" in said
    assert said_by("import glide; print('fine')", hiding, installed) == "fine"
    for imported in ("toolkit", "guidance", "upsampler"):
        said = said_by(f"import {imported}", other(tmp_path / "third", "glide"), installed)
        assert said.startswith("ImportError: ") and "another package named glide" in said
        assert "pip uninstall glide" in said


def test_two_installations_that_are_mixed(installed: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(installed / "upsampler", first / "upsampler")
    said = said_by("import upsampler", first, installed)
    assert f"glide of {installed} and upsampler of {first}" in said and "PYTHONPATH" in said
