"""Several processes on one machine, as a launcher would start them, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

from support.paths import ROOT


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def started(world: int, *command: str, **env: str) -> list[subprocess.Popen[str]]:
    """`python command...` in each of `world` processes that find each other."""
    shared = {
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
        **env,
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


def finished(running: list[subprocess.Popen[str]], timeout: float = 600) -> list[tuple[int, str]]:
    """Exit code and output of each."""
    said = [process.communicate(timeout=timeout)[0] for process in running]
    return [(process.returncode, text) for process, text in zip(running, said, strict=True)]
