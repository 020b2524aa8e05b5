"""The stages of an automatic training: each a run of `train_base` or `train_upsampler`, cut into rounds.

After a round its real seconds a step are known, figures and pictures included, and the steps of the whole stage are
counted again. The learning rate is constant until the last round, over which it falls to zero, so the rounds together
are one training with a cooldown.
"""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path
from typing import Any

from glide.checkpoints.load import load_model
from glide.data.datasets import open_data
from glide.data.wrappers import Encoded
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.timestep_config import TimestepConfig
from glide.training.build_model import build_model
from glide.training.checkpoints import Checkpoints
from glide.training.config import OptimConfig, TrainConfig
from glide.training.distributed import Processes
from glide.training.model_config import choose_config
from glide.training.objectives import DiffusionObjective
from glide.training.step import Stepper
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.hardware import wait
from glide.utils.printable import say
from toolkit.commands.train_auto_flags import TrainAuto
from toolkit.commands.train_auto_plan import CURVE_POINTS, Plan, Stage, duration, steps_for
from toolkit.commands.train_auto_state import AutoState, Round
from toolkit.evaluation.own_pictures import own_pictures_evaluation
from toolkit.evaluation.upsampling import upsampling_evaluation
from toolkit.pipelines.training_preview import batch_grid, sample_grid
from toolkit.pipelines.upscale import enlarger
from upsampler.train import train_upsampler
from upsampler.train_flags import TrainUpsampler

FRACTIONS = (0.1, 0.5, 1.0)
"""Of a stage's time, at the end of each round."""
SAVE_SECONDS = 120.0
"""Between checkpoints: as much is lost by a loss of power."""
EMA = 0.99
WARMUP = 50
TIMED = 3
"""Steps after the first one whose time is taken."""
LOSS = LossConfig(weighting="v", max_weight=10.0)
TIMESTEPS = TimestepConfig("logit_normal", timestep_mean=0.2, timestep_deviation=0.9)


def flags_of(
    args: TrainAuto, stage: Stage, out: Path, held_out: float, described: str, changes: dict[str, Any]
) -> TrainBase:
    """The flags of a stage's run. changes: those of its TrainConfig and its cooldown."""
    optim = OptimConfig(
        lr=1e-3, muon_lr=0.006, weight_decay=0.01, warmup=WARMUP, cooldown=changes.pop("cooldown", 0.0)
    )
    train = TrainConfig(
        batch_size=stage.batch_size,
        optim=optim,
        ema=(EMA,),
        dtype=args.dtype,
        seed=args.seed,
        log_every=20,
        **{"sample_every": 10**8, **changes},
    )
    common: dict[str, Any] = {
        "out": out,
        "data": args.data,
        "init": stage.init,
        "preset": stage.preset,
        "null_captions": 0.1,
        "held_out": held_out,
        "validation_batches": 1,
        "flip": args.flip,
        "device": args.device,
        "practice": TIMESTEPS,
        "loss": LOSS,
        "unconditional": described == "nothing",
        "train": train,
    }
    if stage.name == "upsampler":
        return TrainUpsampler(**common, evaluate_pictures=stage.measured, watched=2)
    words: dict[str, Any] = {"token_captions": 0.2} if described == "captions" else {}
    return TrainBase(**common, **words, model=_sizes(stage), vocab_size=2048, judge=args.judge)


def _sizes(stage: Stage) -> dict[str, Any]:
    """The settings of a model that begins with another one, of whatever size: its noise is that of its own size."""
    if stage.preset is not None:
        return {}
    return {"unet.image_size": stage.size, "process.shift": stage.size / 16}


def measured_speed(args: TrainAuto, stage: Stage, held_out: float, described: str) -> float:
    """Pictures that a training step of the stage takes a second on this machine. Nothing is written."""
    flags = flags_of(args, stage, args.out, held_out, described, {"steps": 1 + TIMED})
    device = find_device(args.device)
    processes = Processes(device=device)
    source = None if flags.init is None else load_model(flags.init)
    if source is not None and source.config.first_stage is not None:
        raise InputError(
            f"got --init {flags.init}, a model that draws latents, expected one of pixels: give emoji, or train it by "
            "scripts/train_base.py"
        )
    chosen = choose_config(flags, None if source is None else source.config)
    data = open_data(
        flags.data,
        chosen.config.picture_size,
        seed=args.seed,
        held_out=held_out,
        channels=chosen.config.picture_channels,
        unconditional=flags.unconditional,
    )
    model = build_model(chosen.config, data, flags, source, chosen.settings).to(device)
    task = DiffusionObjective(
        dataclasses.replace(LOSS, prediction=chosen.config.process.prediction),
        flags.null_captions,
        flags.token_captions,
        None,
        flags.null_conditions,
        None,
    )
    if model.tokenizer is not None and not data.class_names:
        data = Encoded(data, model.tokenizer)
    train = flags.train.settled(processes)
    stepper = Stepper(model, task, TIMESTEPS.sampler(len(model.process)), train, processes)
    start = 0.0
    for step in range(1 + TIMED):
        if step == 1:  # the first one also reads pictures, and makes memory ready
            start = time.perf_counter()
        stepper.step(step, data.batch(step, stage.batch_size))
        wait(device)
    return TIMED * stage.batch_size / (time.perf_counter() - start)


def run_stage(args: TrainAuto, state: AutoState, stage: Stage) -> None:
    """Train a stage, or what is left of it. A signal leaves a checkpoint, as in any training, and the state."""
    rounds = state.rounds.setdefault(stage.name, [])
    for number in range(len(FRACTIONS)):
        if number == len(rounds):
            rounds.append(next_round(stage, rounds, number))
            state.write(args.out)
            say(
                f"{stage.name}: {FRACTIONS[number]:.0%} of its time, to step {rounds[-1].steps}, of "
                f"{duration(stage.seconds)} in all"
            )
        if rounds[number].seconds_per_step is None:
            rounds[number].seconds_per_step = _run_round(args, state.plan, state, stage, number)
            state.write(args.out)


def next_round(stage: Stage, rounds: list[Round], number: int) -> Round:
    """The next round, by the speed of the one before."""
    done = rounds[-1].steps if rounds else 0
    before = rounds[-1].seconds_per_step if rounds else None
    seconds = stage.seconds / max(1, stage.steps) if before is None else before
    total = steps_for(stage.seconds, done, seconds)
    save_every = max(1, round(SAVE_SECONDS / seconds))
    if number + 1 < len(FRACTIONS):
        steps = max(done + 1, min(total, round(FRACTIONS[number] * total)))
        return Round(steps, every=steps, save_every=save_every)
    every = max(1, (total - done) // (CURVE_POINTS - len(FRACTIONS) + 1))
    parts = math.ceil(every / save_every)
    save_every = every // parts
    # a checkpoint at each point, whose models are kept
    return Round(total, (total - done) / total, save_every * parts, save_every)


def _run_round(args: TrainAuto, plan: Plan, state: AutoState, stage: Stage, number: int) -> float:
    """Train to the end of a round; returns seconds per step."""
    one = state.rounds[stage.name][number]
    last = number + 1 == len(FRACTIONS)
    out = args.out / stage.name
    steps = Checkpoints(out / "checkpoints").steps()
    changes: dict[str, Any] = {
        "steps": one.steps,
        "cooldown": one.cooldown,
        "evaluate_every": one.every,
        "save_every": one.save_every,
        "keep_every": one.every if last else 0,
    }
    flags = flags_of(args, stage, out, plan.held_out, state.facts.described, changes)
    flags = dataclasses.replace(flags, resume=bool(steps))
    start = time.perf_counter()
    if isinstance(flags, TrainUpsampler):
        train_upsampler(flags, enlarger, upsampling_evaluation)
    else:
        train_base(flags, sample_grid, fill=batch_grid, evaluation=own_pictures_evaluation(stage.measured))
    done = one.steps - (steps[-1] if steps else 0)
    if done > 0:
        return (time.perf_counter() - start) / done
    before = state.rounds[stage.name][number - 1].seconds_per_step if number else None
    return before or stage.seconds / max(1, stage.steps)
