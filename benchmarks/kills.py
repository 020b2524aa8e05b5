"""Kill a training at random moments (kill -9), resume it, and compare the result with the run that was not killed.

python benchmarks/kills.py --kills 100 --out outputs/kills

Each run is killed until it has come to its end; then another one begins, until there were enough kills. The last line
says how many runs ended with the weights, averages and losses of the uninterrupted one, bit for bit.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch._dynamo  # which the first step of any optimizer imports: once, before the processes are forked
from safetensors.torch import load_file

from glide.training.checkpoints import Checkpoints
from glide.training.config import OptimConfig, TrainConfig
from glide.training.metrics import read_log
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.cli import fail, parse, run
from glide.utils.file_locks import check_new_folder


@dataclass(frozen=True)
class Kills:
    """The flags."""

    kills: int = 100
    steps: int = 60
    """Steps of each run; a checkpoint is written after every second one."""
    seed: int = 0
    """Seed of the random moments."""
    out: Path = Path("outputs/kills")


def main() -> None:
    args = parse(Kills, __doc__)
    check_new_folder(args.out)
    args.out.mkdir(parents=True)
    torch.set_num_threads(1)  # before the process forks: threads do not survive that
    whole = settings(args, "whole")
    process = begun(whole)
    process.join()
    if process.exitcode:
        fail(f"the uninterrupted run ended with code {process.exitcode}")
    rng = random.Random(args.seed)
    done = writing = equal = ended = 0
    while done < args.kills:
        part = settings(args, f"run{ended}")
        while done < args.kills:
            process = begun(part)
            killed, wrote = kill(process, part.out, rng)
            if not killed:
                break
            done, writing = done + 1, writing + wrote
            print(
                f"kill {done}: {state_of(part.out)}{', while it wrote a checkpoint' if wrote else ''}",
                flush=True,
            )
        process = begun(part)  # to its end, or at once where it has come to it
        process.join()
        ended += 1
        same = process.exitcode == 0 and alike(whole.out, part.out)
        equal += same
        print(
            f"run {ended}: {'the same' if same else f'DIFFERENT (exit code {process.exitcode})'}", flush=True
        )
    print(
        f"{done} kills, {writing} while a checkpoint was written: {equal} of {ended} runs are the same bit for bit"
    )
    if equal != ended:
        fail("a run that was killed came out otherwise")


def settings(args: Kills, name: str) -> TrainBase:
    train = TrainConfig(
        steps=args.steps,
        batch_size=2,
        optim=OptimConfig(lr=1e-3, muon_lr=0.02, warmup=2, cooldown=0.5),
        ema=(0.9, 0.99),
        dtype="float32",
        log_every=1,
        save_every=2,
        sample_every=10**9,
    )
    return TrainBase(out=args.out / name, preset="tiny", dropout=0.1, train=train, device="cpu")


def begun(args: TrainBase) -> multiprocessing.Process:
    """The run in a process of its own, resumed where it has a checkpoint."""
    resume = bool(Checkpoints(args.out / "checkpoints").steps())
    process = multiprocessing.get_context("fork").Process(target=_train, args=(replace(args, resume=resume),))
    process.start()
    return process  # type: ignore[return-value]


def _train(args: TrainBase) -> None:
    sys.stdout = sys.stderr = open(args.out.with_suffix(".log"), "a")  # noqa: SIM115
    train_base(args)


def kill(process: multiprocessing.Process, out: Path, rng: random.Random) -> tuple[bool, bool]:
    """Kill it at a random moment; (whether it was, whether it was writing a checkpoint), (False, False) if it ended."""
    before, begin = last_step(out), time.monotonic()
    if rng.random() < 0.2:  # while it starts
        time.sleep(rng.uniform(0, 0.5))
    else:
        while process.is_alive() and last_step(out) <= before:
            time.sleep(0.01)  # reading the log costs more
        time.sleep(rng.uniform(0, max(0.2, 0.2 * (time.monotonic() - begin))))
        if rng.random() < 0.5:  # and half of these while it writes
            while process.is_alive() and not any(out.glob("checkpoints/*.tmp")):
                time.sleep(0.001)
    if not process.is_alive():
        return False, False
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wrote = any(out.glob("checkpoints/*.tmp"))
    return process.exitcode == -signal.SIGKILL, wrote


def last_step(out: Path) -> int:
    lines = read_log(out / "log.jsonl")
    return int(lines[-1]["step"]) if lines else 0


def state_of(out: Path) -> str:
    steps = Checkpoints(out / "checkpoints").steps()
    return f"at step {last_step(out)}, checkpoints {', '.join(map(str, steps)) or 'none'}"


def alike(a: Path, b: Path) -> bool:
    """Weights, averages and losses, bit for bit."""
    last = Checkpoints(a / "checkpoints").steps()[-1]
    for name in ("model", "ema-0.9", "ema-0.99"):
        x, y = (
            load_file(Checkpoints(run / "checkpoints").path(last) / f"{name}.safetensors") for run in (a, b)
        )
        if x.keys() != y.keys() or not all(torch.equal(x[k], y[k]) for k in x):
            return False
    losses = [json.dumps([line["loss"] for line in read_log(run / "log.jsonl")]) for run in (a, b)]
    return losses[0] == losses[1]


if __name__ == "__main__":
    run(main)
