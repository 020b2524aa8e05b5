"""Calling scripts/sample.py from tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sample as script  # scripts/sample.py

from support import scripts
from support.paths import ROOT

QUICK = ("--steps", "2")

Capture = pytest.CaptureFixture[str]


def call(*argv: object) -> int:
    """Exit code of the script, called in this process with threads and files as they are."""
    return scripts.call(script, *argv)


def process(*argv: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The script in a process of its own, from another folder, where the packages need not be installed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, str(ROOT / "scripts/sample.py"), *map(str, argv)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def pngs(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []


def refused(code: int, capture: Capture, said: str) -> None:
    """One sentence on stderr, nothing on stdout, exit code 2."""
    out, err = capture.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and err.startswith("error: ") and said in err, err
