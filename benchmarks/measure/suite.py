"""The measurements of one run: which there are, one after the other, each in a process of its own."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure.drawing import draw_steps, draw_whole
from benchmarks.measure.layers import profile_steps
from benchmarks.measure.machine import begin, describe, fresh
from benchmarks.measure.networks import write_network
from benchmarks.measure.operators import profile_training
from benchmarks.measure.original import draw_original, original_dtype
from benchmarks.measure.others import dtypes_of, installed, measure_other
from benchmarks.measure.peaks import measure_peaks
from benchmarks.measure.plan import Plan
from benchmarks.measure.report import Report
from benchmarks.measure.results import Found, Note
from benchmarks.measure.startup import start_up
from benchmarks.measure.training import train_default, train_steps
from benchmarks.measure.turns import Job, Race, Worker, alone, in_turn
from glide.utils.dtype import find_dtype
from glide.utils.errors import InputError

FULL_SIZE = ("base", "upsampler")


def measure(
    plan: Plan,
    say: Callable[[str], object],
    call: Callable[..., Any] = fresh,
    worker: Callable[[Job, Plan], Any] = Worker,
) -> Report:
    """Measure all that is asked for; `say` gets each result when it is there.

    call: how a measurement is called, by itself and without memory of others; worker: what holds one of several that
    take turns. A measurement that fails is a note, and the next one is made. InputError for a plan that cannot be.
    """
    plan.check()
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    plan, peaks = settled(plan), types_of(plan)
    command = shlex.join(["python", *sys.argv])
    report = Report(command, date, call(describe, plan), call(measure_peaks, plan, peaks))
    for name, value in report.machine.items():
        say(f"{name}: {value}")
    for name, convolution, matmul in report.peak_rows():
        say(f"peak, {name}: 3x3 convolution {convolution} GFLOP/s, matmul {matmul} GFLOP/s")
    with tempfile.TemporaryDirectory(prefix="glide-benchmark-") as place:
        folders = {name: Path(place) / name for name in FULL_SIZE}
        for name in needed(plan):
            call(write_network, plan, name, folders[name])
        for job in jobs(plan, folders):
            found = in_turn(plan, job, worker) if isinstance(job, Race) else _attempted(plan, job, call)
            report.found += found  # of a race all at once, as the lines have their ratios
            for one in found:
                say(report.line(one))
    for package in missing(plan):
        note = Note(f"{package}: not installed here")
        report.found.append(note)
        say(report.line(note))
    report.peaks = report.peaks.best(call(measure_peaks, plan, peaks))
    return report


def _attempted(plan: Plan, job: Job, call: Callable[..., Any]) -> list[Found]:
    try:
        return call(job.function, plan, *job.args)
    except InputError:
        raise
    except Exception as error:  # of whatever kind: what comes next can still be measured
        said = " ".join(str(error).split())[:300]
        return [Note(f"{job.name}: failed, {type(error).__name__}: {said}")]


def settled(plan: Plan) -> Plan:
    """The plan with a type in place of "auto", each type once. Warns of those that the device has no units for."""
    device = begin(plan)
    names = (str(find_dtype(name, device)).removeprefix("torch.") for name in plan.dtype)
    return replace(plan, dtype=tuple(dict.fromkeys(names)))  # type: ignore[arg-type]


def types_of(plan: Plan) -> list[str]:
    """The types that anything is measured in: those asked for, and that of the originals beside them."""
    beside = plan.beside and set(FULL_SIZE) & set(plan.cases)
    return list(dict.fromkeys([*settled(plan).dtype, *([original_dtype(begin(plan))] if beside else [])]))


def needed(plan: Plan) -> list[str]:
    """The networks with random weights that the cases draw with."""
    return [name for name in FULL_SIZE if {name, "picture"} & set(plan.cases)]


def missing(plan: Plan) -> list[str]:
    """Packages that are asked for beside this one and are not there."""
    asked = [name for name in plan.beside if name != "original"] if set(FULL_SIZE) & set(plan.cases) else []
    return [name for name in asked if not installed(name)]


def jobs(plan: Plan, folders: dict[str, Path]) -> Iterator[Job | Race]:
    """In the order of the cases; profiles come last. folders: of the networks with random weights."""
    for case in plan.cases:
        if case in FULL_SIZE:
            yield from _races(plan, case, folders[case])
        elif case == "embedded":
            for job in (
                _here(case, plan.model, dtype, batch) for dtype in plan.dtype for batch in plan.batch_sizes
            ):
                yield Job(job.name, alone, (job.function, *job.args))
        elif case == "cascade":
            for dtype in plan.dtype:
                args = (case, plan.model, plan.upsampler, dtype, plan.repeats)
                yield Job(f"{case}, {dtype}", draw_whole, args)
        elif case == "picture":
            for dtype in plan.dtype:
                picture = (case, folders["base"], folders["upsampler"], dtype, plan.picture_repeats)
                yield Job(f"{case}, {dtype}", draw_whole, picture)
        elif case == "train":
            yield from (Job(f"{case}, {dtype}", train_steps, (dtype,)) for dtype in _trained(plan))
            yield Job(f"{case}, the default beside float32", train_default)
        else:
            yield Job(case, start_up)
    if plan.profile:
        yield from _profiles(plan, folders)


def _trained(plan: Plan) -> list[str]:
    """There is no scaling of the loss here, which float16 would need."""
    return [dtype for dtype in plan.dtype if dtype != "float16"]


def _here(case: str, name: str | Path, dtype: str, batch: int) -> Job:
    return Job(f"{case}, {dtype}, batch {batch}", draw_steps, (case, name, dtype, batch))


def _races(plan: Plan, case: str, folder: Path) -> Iterator[Race]:
    """For each type and batch size this project and those beside it that run in that type, in turn."""
    device = begin(plan)
    beside = [who for who in plan.beside if who == "original" or installed(who)]
    kinds = {who: dtypes_of(who, device, plan.dtype) for who in beside}
    for dtype in dict.fromkeys([*plan.dtype, *(of for found in kinds.values() for of in found)]):
        for batch in plan.batch_sizes:
            racing = [_here(case, folder, dtype, batch)] if dtype in plan.dtype else []
            for who in beside:
                if dtype not in kinds[who]:
                    continue
                if who == "original":
                    original = (case, folder, batch)
                    racing.append(Job(f"{case}, the original's way, batch {batch}", draw_original, original))
                else:
                    name = f"{case}, {who}, {dtype}, batch {batch}"
                    racing.append(Job(name, measure_other, (who, case, dtype, batch)))
            yield Race(tuple(racing))


def _profiles(plan: Plan, folders: dict[str, Path]) -> Iterator[Job]:
    networks: dict[str, str | Path] = {**folders, "embedded": plan.model}
    for case in plan.cases:
        if case in networks:
            for dtype in plan.dtype:
                args = (case, networks[case], dtype, plan.batch_sizes[0])
                yield Job(f"profile of {case}, {dtype}", profile_steps, args)
        elif case == "train":
            yield from (
                Job(f"profile of {case}, {dtype}", profile_training, (dtype,)) for dtype in _trained(plan)
            )
