"""The time of a training step by operator, from PyTorch's profiler: backward passes and optimizers are no modules."""

from __future__ import annotations

import itertools
from collections.abc import Generator

from torch.profiler import ProfilerActivity, profile

from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Table
from benchmarks.measure.training import WARM_UP, Training
from glide.data.datasets import Batch

KINDS = {  # by parts of an operator's name; the first that fits counts
    "optimizer and averages": ("_foreach", "optimizer", "lerp", "_fused_adam"),
    "conv": ("conv",),
    "norm": ("norm",),
    "attention, and Muon's products": ("softmax", "scaled_dot_product", "flash", "bmm"),
    "linear": ("mm", "linear", "gemm"),
    "activation": ("silu", "gelu"),
    "copies and layout": ("copy", "cat", "contiguous", "to_copy", "clone"),
}
REST = "rest"
MOST = 12  # operators by name


def profile_training(plan: Plan, dtype: str) -> list[Found]:
    """The steps of training.py once more, after its warm-up, operator by operator."""
    training = Training(plan, dtype)
    gpu = training.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    profiler = profile(activities=activities)

    def batches(start: int) -> Generator[Batch, None, None]:
        for step, batch in enumerate(itertools.cycle(training.batches)):
            if step == WARM_UP:
                profiler.start()
            if step == WARM_UP + plan.repeats:
                profiler.stop()
            yield batch

    training.fit(batches, plan.repeats + WARM_UP + 1)
    spent: dict[str, float] = {}
    for event in profiler.key_averages():
        if event.device_type.name != "CPU":
            continue  # a kernel, whose time is also that of the operator that launched it
        own = event.self_device_time_total if gpu else event.self_cpu_time_total  # microseconds
        spent[event.key] = spent.get(event.key, 0.0) + own / plan.repeats / 1000
    return tables(f"train, {dtype}, batch {plan.train_batch}", spent)


def kind_of(operator: str) -> str:
    name = operator.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), REST)


def tables(title: str, spent: dict[str, float]) -> list[Found]:
    """spent: milliseconds of a step by operator."""
    total = sum(spent.values()) or 1.0
    kinds = dict.fromkeys([*KINDS, REST], 0.0)
    for operator, ms in spent.items():
        kinds[kind_of(operator)] += ms

    def rows(parts: dict[str, float]) -> tuple[tuple[str, ...], ...]:
        return tuple((name, f"{ms:.3g}", f"{ms / total:.1%}") for name, ms in parts.items())

    most = dict(sorted(spent.items(), key=lambda item: -item[1])[:MOST])
    header = ("", "ms", "of the step")
    return [
        Table(f"{title}, by kind of operator", header, rows(kinds)),
        Table(f"{title}, the {MOST} operators that take most", header, rows(most)),
    ]
