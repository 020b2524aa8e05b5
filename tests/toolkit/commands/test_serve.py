"""The serve command: refusals before it listens, and a clean stop on a signal."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import serve as script  # scripts/serve.py

from support import scripts
from support.paths import ROOT
from support.sample_script import Capture, refused


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--host", "0.0.0.0"), "add --auth TOKEN"),
        (("--host", "0.0.0.0", "--auth", "short"), "expected at least 12"),
        (("--port", "70000"), "--port"),
        (("--queue", "0"), "--queue"),
        (("--together", "0"), "--together"),
        (("--model", "shapes", "--model", "shapes"), "expected different models"),
        (("--run", "not-there"), "expected the folder of a training"),
    ],
)
def test_what_is_refused(flags: tuple[str, ...], said: str, capsys: Capture, work_folder: Path) -> None:
    refused(scripts.call(script, *flags), capsys, said)


def test_a_port_that_is_taken(capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused(scripts.call(script, "--port", taken.getsockname()[1]), capsys, "choose another --port")


def test_without_the_extra(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    refused(scripts.call(script), capsys, "pip install 'glide-toolkit[web]'")


@pytest.mark.slow
def test_it_answers_and_stops(text_folder: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/serve.py"), "--model", str(text_folder), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1].rstrip(",")
        with urllib.request.urlopen(address) as answer:
            assert b"<title>Glide</title>" in answer.read()
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "") and "stopped" in out
