"""What is installed and what is released: the wheel, the source distribution, and other packages of the same names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest

from glide.utils.installation import HOME, PACKAGES, check_packages
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
    data |= {name for name in wanted if re.fullmatch(r"toolkit/evaluation/\w+\.(html|css|js)", name)}
    data |= {name for name in wanted if re.fullmatch(r"toolkit/web/static/[\w-]+\.(html|css|js|svg)", name)}
    assert wanted - modules - data == set()
    text = (ROOT / "setup.py").read_text("utf-8")
    assert '"evaluation/*.html", "evaluation/*.css", "evaluation/*.js", "web/static/*"' in text
    assert '["pretrained/*/*", "py.typed"]' in text and all(f'"{package}"' in text for package in PACKAGES)


def test_the_entry_point_is_there() -> None:
    assert "glide = toolkit.commands.main:main" in (ROOT / "setup.py").read_text("utf-8")


def test_every_path_of_the_makefile_is_there() -> None:
    text = (ROOT / "Makefile").read_text("utf-8")
    named = re.findall(r"(?<![\w/])(?:tests|scripts|glide)/[\w/]+(?:\.py)?(?=[\s\\])", text)
    assert len(named) > 10 and [name for name in named if not (ROOT / name).exists()] == []


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


def said_by(packages: Sequence[str], *path: Path) -> list[str]:
    """Import packages in a new process, with these folders first on its path: what each says, or its file."""
    code = (
        f"import sys; sys.path[:0] = {list(map(str, path))}\n"
        f"for name in {list(packages)}:\n"
        "    try: print(__import__(name).__file__)\n"
        "    except ImportError as error: print(error)"
    )
    alone = {
        name: value for name, value in os.environ.items() if name != "PYTHONPATH"
    }  # which may hold a checkout
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=path[0], env=alone, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def other(folder: Path, name: str, text: str = "VERSION = 1\n") -> Path:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "__init__.py").write_text(text, "utf-8")
    return folder


def test_a_whole_installation_is_silent(installed: Path) -> None:
    assert said_by(PACKAGES, installed) == [str(installed / name / "__init__.py") for name in PACKAGES]


@pytest.mark.parametrize("name", ["guidance", "upsampler", "toolkit"])
def test_a_package_installed_over_ours(installed: Path, name: str) -> None:
    ours = [package for package in PACKAGES if package != name]
    for said in said_by(ours, other(installed, name)):
        assert said.startswith(f"another package named {name} was installed over Glide Toolkit's")
        assert f"pip uninstall {name}" in said and "pip install --force-reinstall glide-toolkit" in said
        assert "an environment of its own" in said


@pytest.mark.parametrize("text", ["", "import consecution_that_is_not_there\n"])
def test_another_glide_installed_over_ours(installed: Path, text: str) -> None:
    for said in said_by(PACKAGES[1:], other(installed, "glide", text)):
        assert "another package named glide" in said
        assert "pip uninstall glide" in said and "pip install --force-reinstall glide-toolkit" in said


def test_a_package_uninstalled_again(installed: Path) -> None:
    (installed / "guidance/__init__.py").unlink()
    (said,) = said_by(["toolkit"], installed)
    assert "another package named guidance was installed over" in said and "--force-reinstall" in said


def test_a_package_that_hides_ours(installed: Path, tmp_path: Path) -> None:
    hiding = other(tmp_path / "other", "guidance")
    fine, said = said_by(["glide", "toolkit"], hiding, installed)
    assert fine == str(installed / "glide/__init__.py")
    assert f"another package named guidance, in {hiding / 'guidance'}, hides Glide Toolkit's" in said
    for said in said_by(PACKAGES[1:], other(tmp_path / "third", "glide"), installed):
        assert "another package named glide" in said and "pip uninstall glide" in said


def test_two_installations_that_are_mixed(installed: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    shutil.copytree(installed / "upsampler", first / "upsampler")
    (said,) = said_by(["upsampler"], first, installed)
    assert f"glide of {installed} and upsampler of {first}" in said and "PYTHONPATH" in said
