"""Check that two processes train the same model as one, and sharded ones (FSDP2) the same as copies (DDP).

python benchmarks/processes.py --steps 50 --preset shapes-32 --out outputs/processes
python benchmarks/processes.py --device cuda --out outputs/two-gpus

Each run is a command of its own, the one a user would write; with one process it is the same without the launcher.
Losses are compared at every step, the averaged weights at the end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors.torch import load_file
from torch import Tensor

from glide.utils.cli import fail, parse, run
from glide.utils.file_locks import check_new_folder

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Compare:
    """The flags."""

    steps: int = 50
    batch_size: int = 8
    """Batch size of all processes together."""
    preset: str = "shapes-32"
    data: str = "shapes:one"
    lr: float = 1e-4
    dropout: float = 0.1
    processes: int = 2
    device: Literal["cpu", "cuda"] = "cpu"
    """cuda: as many GPUs as processes."""
    out: Path = Path("outputs/processes")


def main() -> None:
    args = parse(Compare, __doc__)
    check_new_folder(args.out)
    one = trained(args, "one", 1)
    parts = trained(args, "parts", 1, "--accumulate", str(args.processes))
    copies = trained(args, "ddp", args.processes)
    shards = trained(args, "fsdp2", args.processes, "--shard")
    print(f"{torch.__version__}, {args.preset}, {args.steps} steps of {args.batch_size} pictures, float32")
    many = f"{args.processes} {'nccl' if args.device == 'cuda' else 'gloo'} processes"
    compare(f"{many} (DDP) against one", copies, one)
    compare(f"{many} (DDP) against one that accumulates {args.processes} parts", copies, parts)
    compare(f"{many} (FSDP2) against DDP", shards, copies)
    on = trained(args, "fsdp2", 1, "--resume", steps=args.steps + 1)
    print(f"FSDP2's checkpoint goes on in one process: step {len(losses(on))}, loss {losses(on)[-1]:.4f}")


def trained(args: Compare, name: str, processes: int, *flags: str, steps: int | None = None) -> Path:
    """The folder of a run."""
    out = args.out / name
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), str(ROOT / "scripts/train_base.py")]
    shared = (
        f"--data {args.data} --preset {args.preset} --steps {steps or args.steps} --batch-size {args.batch_size} "
        f"--lr {args.lr} --dropout {args.dropout} --ema 0.9 --dtype float32 --device {args.device} --log-every 1 "
        "--sample-every 100000 --save-every 100000 --validation-batches 0"
    )
    command += [*shared.split(), "--out", str(out), *flags]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        fail(f"the run {name} ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return out


def compare(what: str, a: Path, b: Path) -> None:
    """Print the largest differences: relative, of losses; absolute, of averaged weights."""
    pairs = list(zip(losses(a), losses(b), strict=True))
    loss = max(abs(x - y) / abs(y) for x, y in pairs)
    x, y = average(a), average(b)
    weight = max((x[name] - y[name]).abs().max().item() for name in y)
    print(f"{what}: loss {loss:.1e} relative at most, averaged weights {weight:.1e}")


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def average(out: Path) -> dict[str, Tensor]:
    """Averaged weights of the last checkpoint: float32, as no model's folder need be."""
    return load_file(max((out / "checkpoints").glob("step-*")) / "ema-0.9.safetensors")


if __name__ == "__main__":
    run(main)
