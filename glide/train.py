"""fit(): one training loop for every model here.

A step's randomness (timesteps, noise, dropout) is a pure function of (seed, step), and so is its batch
(`glide.data`). So a run resumed from a checkpoint is the run that was never stopped, bit for bit.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol, TypeVar

import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from glide.errors import InputError
from glide.losses import TimestepSampler
from glide.optim import Averages, OptimConfig, Optimizer

Batch = dict[str, Any]
M = TypeVar("M", bound=nn.Module)
M_contra = TypeVar("M_contra", bound=nn.Module, contravariant=True)


class Task(Protocol[M_contra]):
    """What is trained: a batch in, per-example losses out.

    Called with (model, batch, t [N], generator); returns a dict of [N] tensors of which "loss" is minimised.
    """

    def __call__(
        self, model: M_contra, batch: Batch, t: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class TrainConfig:
    """The run, besides the model, the data and the loss."""

    steps: int = 100_000
    batch_size: int = 64
    accumulate: int = 1
    """Parts a batch is cut into, one after the other, to save memory."""
    optim: Annotated[OptimConfig, tyro.conf.arg(name="")] = field(default_factory=OptimConfig)
    ema: tuple[float, ...] = (0.999,)
    """Decays of the weight averages; the first is the model that is saved."""
    dtype: str = "bfloat16"
    """Autocast of the network: bfloat16, or float32 for none."""
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    save_every: int = 1000
    keep: int = 2
    """Checkpoints kept, the newest."""


def fit(
    model: M,
    task: Task[M],
    batches: Callable[[int], Iterator[Batch]],
    timesteps: TimestepSampler,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    save: Callable[[M, Path, int], None],
    sample: Callable[[M, Path], None] | None = None,
) -> M:
    """Train `model` in place for `config.steps` steps; returns it with the first average's weights.

    batches(step) iterates over the batches from that step on. `out` receives `log.jsonl`, `checkpoints/`,
    `samples/` and, by `save(model, out, step)` with the averaged weights, the model folder itself.
    Raises InputError when the loss is no longer finite (the last checkpoint is kept and named).
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = Optimizer(model, config.optim, config.steps)
    averages = Averages(model, config.ema)
    run = _Run(out, model, optimizer, averages, timesteps)
    start = run.load() if resume else 0
    log = _Log(out / "log.jsonl", start)
    generator = torch.Generator(device="cpu")

    bar = tqdm(
        batches(start), total=config.steps, initial=start, desc=out.name, unit="step", dynamic_ncols=True
    )
    step = start
    for step, batch in enumerate(bar, start):
        if step >= config.steps:
            break
        seed = _step_seed(config.seed, step)
        torch.manual_seed(seed)  # dropout
        generator.manual_seed(seed)
        size = len(batch["image"])
        t, weight = timesteps.sample(size, generator)
        losses = []
        for rows in torch.arange(size).chunk(config.accumulate):
            part = {k: _rows(v, rows, device) for k, v in batch.items()}
            with torch.autocast(device.type, getattr(torch, config.dtype), enabled=config.dtype != "float32"):
                terms = task(model, part, t[rows].to(device), generator)
            (terms["loss"] * weight[rows].to(device)).sum().div(size).backward()
            losses.append({k: v.detach().float().cpu() for k, v in terms.items()})
        terms = {k: torch.cat([part[k] for part in losses]) for k in losses[0]}
        loss = terms["loss"].mean().item()
        if not math.isfinite(loss):
            raise InputError(
                f"the loss is {loss} at step {step}; training stopped. The last good checkpoint is "
                f"{run.last() or 'none'}: resume from it with a lower learning rate or float32."
            )
        norm = optimizer.step(step)
        averages.update(step)
        timesteps.update(t, terms["loss"])
        log.add(terms, t, timesteps.steps, float(norm))
        done = step + 1
        if done % config.log_every == 0 or done == config.steps:
            line = log.write(done, config.optim.rate(step, config.steps), size)
            bar.set_postfix(loss=f"{line['loss']:.4f}", img_s=f"{line['images_per_second']:.0f}")
        if done % config.save_every == 0 or done == config.steps:
            run.save(done, config.keep)
            with run.averaged():
                save(model, out, done)
        if sample is not None and (done % config.sample_every == 0 or done == config.steps):
            with run.averaged():
                sample(model, out / "samples" / f"{done:07d}.png")
            log.restart_clock()
    bar.close()
    run.swap()
    model.eval()
    tqdm.write(f"trained to step {config.steps}; the model is in {out}")
    return model


def _step_seed(seed: int, step: int) -> int:
    """A seed for one step: neighbours in (seed, step) land far apart."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xD1342543DE82EF95 + 0x2545F4914F6CDD1D) % 2**63


def _rows(value: Any, rows: Tensor, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value[rows].to(device, non_blocking=True)
    return [value[i] for i in rows.tolist()]


class _Log:
    """JSON lines: means since the last line, the loss by quarter of the timesteps, rates."""

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() and start else []
        # lines after the checkpoint belong to steps that will be done again
        kept = [line for line in lines if line.strip() and json.loads(line)["step"] <= start]
        path.write_text("".join(line + "\n" for line in kept))
        self._reset()

    def _reset(self) -> None:
        self.terms: dict[str, list[float]] = {}
        self.quarters: list[list[float]] = [[], [], [], []]
        self.norms: list[float] = []
        self.restart_clock()

    def restart_clock(self) -> None:
        self.clock, self.clocked = time.perf_counter(), 0

    def add(self, terms: Mapping[str, Tensor], t: Tensor, steps: int, norm: float) -> None:
        for k, v in terms.items():
            self.terms.setdefault(k, []).append(v.mean().item())
        for quarter, value in zip((4 * t // steps).tolist(), terms["loss"].tolist(), strict=True):
            self.quarters[quarter].append(value)
        self.norms.append(norm)
        self.clocked += 1

    def write(self, step: int, rate: float, batch_size: int) -> dict[str, Any]:
        seconds = time.perf_counter() - self.clock
        line: dict[str, Any] = {"step": step}
        line |= {k: sum(v) / len(v) for k, v in self.terms.items()}
        line["loss_quarters"] = [sum(q) / len(q) if q else None for q in self.quarters]
        line["gradient_norm"] = sum(self.norms) / len(self.norms)
        line["rate"] = rate
        line["images_per_second"] = round(self.clocked * batch_size / seconds, 1)
        with self.path.open("a") as f:
            f.write(json.dumps(line) + "\n")
        self._reset()
        return line


class _Run:
    """The state of a run on disk: checkpoints written aside and renamed, the newest readable one is taken."""

    def __init__(
        self,
        out: Path,
        model: nn.Module,
        optimizer: Optimizer,
        averages: Averages,
        timesteps: TimestepSampler,
    ) -> None:
        self.folder = out / "checkpoints"
        self.model, self.optimizer, self.averages, self.timesteps = model, optimizer, averages, timesteps

    def steps(self) -> list[int]:
        names = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(int(m[1]) for p in names if (m := re.fullmatch(r"step-(\d+)", p.name)))

    def last(self) -> Path | None:
        return self._path(self.steps()[-1]) if self.steps() else None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:07d}"

    def save(self, step: int, keep: int) -> None:
        path, aside = self._path(step), self.folder / f"writing-{step}.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(
            {k: p.detach().contiguous() for k, p in self.averages.source.items()}, aside / "model.safetensors"
        )
        for decay, weights in self.averages.weights.items():
            tensors = {k: p.contiguous() for k, p in weights.items()}
            save_file(tensors, aside / f"ema-{decay}.safetensors")
        state = {
            "step": step,
            "optimizer": self.optimizer.state_dict(),
            "timesteps": self.timesteps.state_dict(),
        }
        torch.save(state, aside / "state.pt")
        shutil.rmtree(path, ignore_errors=True)
        os.replace(aside, path)
        for old in self.steps()[:-keep]:
            shutil.rmtree(self._path(old), ignore_errors=True)

    @torch.no_grad()
    def load(self) -> int:
        """Take up the newest checkpoint; returns its step. InputError if there is none."""
        path = self.last()
        if path is None:
            raise InputError(f"--resume: no checkpoint in {self.folder}; start the run without --resume.")
        try:
            state = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
            _copy(self.averages.source, load_file(path / "model.safetensors"))
            for decay, weights in self.averages.weights.items():
                _copy(weights, load_file(path / f"ema-{decay}.safetensors"))
            self.optimizer.load_state_dict(state["optimizer"])
            self.timesteps.load_state_dict(state["timesteps"])
        except (OSError, KeyError, RuntimeError, ValueError) as e:
            raise InputError(f"{path} cannot be resumed with these settings: {e}") from e
        return int(state["step"])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights with the first average's."""
        for k, w in next(iter(self.averages.weights.values())).items():
            p = self.averages.source[k]
            kept = p.detach().clone()
            p.copy_(w)
            w.copy_(kept)

    def averaged(self) -> _Swapped:
        return _Swapped(self)


class _Swapped:
    """Within this context the model has the averaged weights and is in eval mode."""

    def __init__(self, run: _Run) -> None:
        self.run = run

    def __enter__(self) -> None:
        self.run.swap()
        self.run.model.eval()

    def __exit__(self, *error: object) -> None:
        self.run.swap()
        self.run.model.train()


def _copy(to: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    if set(to) != set(source):
        raise KeyError(f"weights differ: {sorted(set(to) ^ set(source))[:3]}")
    for k, p in to.items():
        p.copy_(source[k])


def check_run_folder(out: Path, resume: bool) -> None:
    """InputError where there is no run to go on with, or one that a new run would overwrite."""
    if resume and not any(out.glob("checkpoints/step-*")):
        raise InputError(f"--resume: no checkpoint in {out}; start the run without --resume.")
    if not resume and (out / "checkpoints").exists():
        raise InputError(f"{out} already holds a run; give --resume to go on with it, or another --out.")


def jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a training record keeps them: what JSON has no word for, by its name."""
    return json.loads(json.dumps(values, default=str))


def last_line(path: Path) -> Any:
    """The last entry of a run's `log.jsonl`, for a model's training record; None where there is none yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    return json.loads(lines[-1]) if lines else None
