"""Start-up time: of an import, and of --help, in fresh processes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Spent

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "PIL", "accelerate", "matplotlib")
COMMANDS = {
    "start-up: python alone": ["-c", "pass"],
    "start-up: import glide": ["-c", "import glide"],
    "start-up: scripts/sample.py --help": ["scripts/sample.py", "--help"],
}


def start_up(plan: Plan) -> list[Found]:
    """Seconds of each command, and which heavy packages it imports."""
    return [_spent(what, command, plan.repeats) for what, command in COMMANDS.items()]


def _spent(what: str, command: list[str], repeats: int) -> Spent:
    said = _run(["-X", "importtime", *command])[1]  # also fills the caches of the disk
    imported = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines() if "|" in line
    }
    heavy = ", ".join(name for name in HEAVY if name in imported) or "nothing heavy"
    return Spent(what, median(_run(command)[0] for _ in range(repeats)), f"imports {heavy}")


def _run(command: list[str]) -> tuple[float, str]:
    """Seconds and standard error. Raises CalledProcessError where the command fails."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=True, timeout=600
    )
    return time.perf_counter() - start, done.stderr
