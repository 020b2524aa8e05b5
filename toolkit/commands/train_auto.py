"""Check pictures, plan a training, do it stage by stage, measure the model, and write a report; resumed as a whole."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from glide.training.checkpoints import Checkpoints
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.file_locks import FolderLock, ready_folder
from glide.utils.printable import say
from glide.utils.ranges import check_numbers
from toolkit.commands.second_stage import BESIDE
from toolkit.commands.train_auto_curve import choose, export, read_curve
from toolkit.commands.train_auto_data import check
from toolkit.commands.train_auto_flags import TrainAuto
from toolkit.commands.train_auto_plan import Asked, DataFacts, Plan, Speed, Stage, in_words, make_plan
from toolkit.commands.train_auto_report import PAGE, TEXT, write_report
from toolkit.commands.train_auto_stages import EMA, measured_speed, run_stage
from toolkit.commands.train_auto_state import AutoState, check_same, read_state
from toolkit.evaluation.features import features_named

LOCK, MODEL = "auto.lock", "model"


def train_auto(args: TrainAuto) -> None:
    """All of it, or what is left of it. InputError for data, time or a folder that cannot be used."""
    check_numbers(args)
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise InputError(
            f"got {processes} processes for a plan of one, expected one: start it without torchrun, or train the "
            "stages of its plan by scripts/train_base.py"
        )
    state = read_state(args.out)
    _check_out(args.out, state)
    features_named(args.judge, find_device(args.device))  # before the work
    facts, _ = check(args.data)
    if state is not None:
        check_same(state, _asked(args), facts, args.out)
        say(f"{args.out} is finished: its report is written again" if state.done else f"resuming {args.out}")
    else:
        state = AutoState(_asked(args), facts, _plan(args, facts))
    say("\n".join(["The plan:", *in_words(state.plan, facts)]), result=True)
    if args.plan_only:
        return
    ready_folder(args.out)
    busy = f"{args.out} is in use by {{holder}}, which trains there: wait for it, or give another --out"
    with FolderLock(args.out / LOCK, busy):
        state = read_state(args.out) or state  # another process may have gone on meanwhile
        state.write(args.out)
        for stage in state.plan.stages:
            run_stage(args, state, stage)
        _finish(args, state)


def _asked(args: TrainAuto) -> dict[str, Any]:
    """The flags that the plan and its training follow from, JSON-able."""
    left_out = ("out", "plan_only", "device", "data")
    values = {name: value for name, value in asdict(args).items() if name not in left_out}
    return {"data": str(args.data), **values}


def _check_out(out: Path, state: AutoState | None) -> None:
    """InputError for a folder that holds something else."""
    if state is None and out.is_dir() and any(path.name != LOCK for path in out.iterdir()):
        raise InputError(
            f"got --out {out}, which holds something else, expected a new folder: give another --out"
        )


def _plan(args: TrainAuto, facts: DataFacts) -> Plan:
    """Measure this machine and plan."""
    init = None if args.init == "none" else args.init or "emoji"
    sizes = (64, 32) if args.size is None else (args.size,)
    rates = {}
    for size in sizes:
        scratch = "emoji-64" if size == 64 else "shapes-32"
        batch = max(4, min(16, facts.pictures // 4))
        stage = Stage("base", size, init, None if init else scratch, batch, 0.0, 1, 1)
        start = time.perf_counter()
        rates[size] = measured_speed(args, stage, 0.0, facts.described)
        say(
            f"measured at {size} pixels: {rates[size]:.1f} pictures a second in training "
            f"({time.perf_counter() - start:.0f} s)"
        )
    gpu = find_device(args.device).type != "cpu"
    asked = Asked(
        args.hours, args.init, args.size, None if args.upsampler is None else args.upsampler == "yes"
    )
    return make_plan(facts, Speed(rates, gpu), asked)


def _finish(args: TrainAuto, state: AutoState) -> None:
    """The model folder and the report."""
    plan, base = state.plan, state.plan.stages[0]
    run = args.out / base.name
    choice = choose(read_curve(run), Checkpoints(run / "checkpoints").steps(), base.measured)
    model = args.out / MODEL
    export(run, choice.step, EMA, model)
    for stage in plan.stages[1:]:
        last = Checkpoints(args.out / stage.name / "checkpoints").steps()[-1]
        export(args.out / stage.name, last, EMA, model / BESIDE)
    if len(plan.stages) == 1 and (model / BESIDE).exists():
        shutil.rmtree(model / BESIDE)
    start = time.perf_counter()
    write_report(args, state, choice, model)
    state.done = True
    state.write(args.out)
    say(f"the report took {time.perf_counter() - start:.0f} s")
    say(f"model: {model.resolve()}", result=True)
    say(f"report: {(args.out / PAGE).resolve()}, {(args.out / TEXT).resolve()}", result=True)
