"""The plan of an automatic training: a pure function of the data's facts, the measured speed and the hours.

Imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from glide.utils.errors import InputError

Described = Literal["captions", "classes", "nothing"]
FEWEST = 10
"""Pictures of which a training makes sense at all."""
LARGE = 224
"""Short side, in pixels, from which a picture can teach an upsampler to 256 pixels."""
REPORT_SHARE = 0.08
"""Of the time, for the pictures and figures of the report."""
CURVE_SHARE = 0.08
"""Of a stage's time, for the figures on the way."""
UPSAMPLER_SHARE = 0.25
"""Of the time, for an upsampler where there is one."""
ENOUGH_PASSES = 100
"""Times that each picture should be seen at 64 pixels: with fewer, a quarter of the pixels teaches more."""
ENOUGH_PICTURES = 2_000_000
"""Pictures seen, of which a large data set needs no more passes."""
SCRATCH_PICTURES, SCRATCH_SEEN = 3000, 3_000_000
"""Pictures there are, and pictures seen, from which a model need not begin with another one's weights."""
UPSAMPLER_LEAST = 30 * 60
"""Seconds below which an upsampler learns nothing that a filter cannot do."""
UPSAMPLER_INIT = "emoji"
LEAST_STEPS = 50
HELD_OUT_FROM, HELD_OUT_SHARE, HELD_OUT_MOST = 150, 0.1, 1000
"""Pictures from which some are held out, the share of them, and how many at most."""
HELD_OUT_FEWEST = 30
FORWARD_PASSES = 40
"""Of a drawn picture: 20 steps with guidance."""
TRAINING_PASSES = 3
"""Forward passes that the training of one picture takes as long as."""
CURVE_POINTS = 6


@dataclass(frozen=True)
class DataFacts:
    """The facts of a data set, JSON-able."""

    pictures: int
    """Whole ones."""
    broken: int
    described: Described
    different: int
    """Different captions, or classes."""
    large: int
    """Pictures whose short side has at least `LARGE` pixels."""
    side: int
    """The short side in the middle, in pixels."""
    fingerprint: str
    """Of names, captions or classes, and sizes: another one means other data."""


@dataclass(frozen=True)
class Asked:
    """The wishes of the flags; None leaves the choice to the plan."""

    hours: float
    init: str | None = None
    """An embedded model, a folder, or "none"."""
    size: int | None = None
    upsampler: bool | None = None


@dataclass(frozen=True)
class Speed:
    """Pictures that a training step takes a second, measured on this machine, by the size of a picture."""

    at: dict[int, float]
    gpu: bool = False


@dataclass(frozen=True)
class Stage:
    """One training of the plan, JSON-able."""

    name: str
    """base or upsampler."""
    size: int
    """Pixels of its pictures."""
    init: str | None
    preset: str | None
    batch_size: int
    seconds: float
    steps: int
    """Expected; they are counted again on the way."""
    measured: int
    """Pictures of each kind that a point of the curve draws."""


@dataclass(frozen=True)
class Plan:
    """The stages in order, with a sentence for each choice."""

    stages: tuple[Stage, ...]
    held_out: float
    """Share of the pictures."""
    report_pictures: int
    """Pictures of each kind that the report draws, at most."""
    report_seconds: float
    reasons: tuple[str, ...]


def make_plan(facts: DataFacts, speed: Speed, asked: Asked) -> Plan:
    """The plan for that data on that machine. InputError for too little time."""
    seconds = asked.hours * 3600
    reasons: list[str] = []
    held_out = _held_out(facts, reasons)
    learned = facts.pictures * (1 - held_out)
    report = REPORT_SHARE * seconds
    rest = seconds - report
    size = _size(learned, speed, rest, asked.size, reasons)
    enlarges = _enlarges(facts, size, rest, asked.upsampler, reasons)
    base_seconds = rest * (1 - UPSAMPLER_SHARE) if enlarges else rest
    init, preset = _start(facts, size, base_seconds * speed.at[size], asked.init, reasons)
    batch = _batch(learned, speed.gpu, reasons)
    base = _base(size, init, preset, batch, base_seconds, speed, reasons)
    stages = [base]
    if enlarges:
        stages.append(_upsampler(size, batch, rest - base_seconds, reasons))
    drawn = _affordable(report, speed.at[size], kinds=2)
    return Plan(tuple(stages), held_out, max(drawn, 8), report, tuple(reasons))


def steps_for(stage_seconds: float, done: int, seconds_per_step: float) -> int:
    """Steps of a whole stage, of which `done` took that long each: those that fit into its time."""
    return max(done + 1, math.floor(stage_seconds / seconds_per_step))


def _held_out(facts: DataFacts, reasons: list[str]) -> float:
    if facts.pictures < HELD_OUT_FROM:
        reasons.append(
            f"Nothing is held out: of {facts.pictures} pictures each is needed. So nothing can be said about new "
            "captions, and pictures learned by heart are found by comparing the pictures with each other."
        )
        return 0.0
    share = min(max(HELD_OUT_SHARE, HELD_OUT_FEWEST / facts.pictures), HELD_OUT_MOST / facts.pictures)
    reasons.append(
        f"{share:.1%} of the {facts.pictures} pictures are held out, by their names: they show what the model does "
        "with captions and pictures that it has not seen."
    )
    return share


def _size(learned: float, speed: Speed, seconds: float, asked: int | None, reasons: list[str]) -> int:
    passes = {size: rate * seconds / learned for size, rate in speed.at.items()}
    if asked is not None:
        reasons.append(
            f"Pictures of {asked} pixels, as asked for: each is seen about {passes[asked]:.0f} times."
        )
        return asked
    enough = passes[64] >= ENOUGH_PASSES or speed.at[64] * seconds >= ENOUGH_PICTURES
    if enough or 32 not in passes:
        reasons.append(f"Pictures of 64 pixels: in the time each is seen about {passes[64]:.0f} times.")
        return 64
    reasons.append(
        f"Pictures of 32 pixels: at 64 each would be seen about {passes[64]:.0f} times in the time, at 32 about "
        f"{passes[32]:.0f} times, and what a caption means is learned by seeing. With more hours it would be 64 "
        "(--size 64 has it now)."
    )
    return 32


def _enlarges(facts: DataFacts, size: int, seconds: float, asked: bool | None, reasons: list[str]) -> bool:
    if asked is not None:
        reasons.append(f"{'An' if asked else 'No'} upsampler, as asked for.")
        return asked
    if size != 64:
        reasons.append("No upsampler: what 32 pixels hold is too little to enlarge.")
        return False
    if facts.large < 0.8 * facts.pictures:
        reasons.append(
            f"No upsampler: {facts.large} of {facts.pictures} pictures have the {LARGE} pixels that it learns from."
        )
        return False
    if seconds * UPSAMPLER_SHARE < UPSAMPLER_LEAST:
        least = UPSAMPLER_LEAST / UPSAMPLER_SHARE / (1 - REPORT_SHARE) / 3600
        reasons.append(f"No upsampler to 256 pixels: it is worth its time from about {least:.1f} hours.")
        return False
    reasons.append("An upsampler to 256 pixels: the pictures are large enough, and there is time for it.")
    return True


def _start(
    facts: DataFacts, size: int, seen: float, asked: str | None, reasons: list[str]
) -> tuple[str | None, str | None]:
    """(--init, --preset) of the base model."""
    scratch = "emoji-64" if size == 64 else "shapes-32"
    if asked is not None:
        reasons.append(f"It begins {'from scratch' if asked == 'none' else f'with {asked}'}, as asked for.")
        return (None, scratch) if asked == "none" else (asked, None)
    if facts.pictures >= SCRATCH_PICTURES and seen >= SCRATCH_SEEN:
        reasons.append(
            f"It begins from scratch: {facts.pictures} pictures, {seen / 1e6:.1f} million seen, are enough to learn "
            "all words from the captions."
        )
        return None, scratch
    words = " and knows some words" if facts.described == "captions" else ""
    reasons.append(
        f"It begins with the embedded model emoji, which draws things on a plain ground{words}: {seen / 1000:.0f} "
        "thousand pictures seen would be few from scratch."
    )
    return "emoji", None


def _batch(learned: float, gpu: bool, reasons: list[str]) -> int:
    most = 128 if gpu else 16
    batch = max(4, min(most, 2 ** int(math.log2(max(4.0, learned / 2)))))
    reasons.append(
        f"{batch} pictures a step: "
        + (
            "a GPU takes many at once."
            if gpu
            else "on a CPU many small steps learn more in the time than few large ones."
        )
    )
    return batch


def _base(
    size: int,
    init: str | None,
    preset: str | None,
    batch: int,
    seconds: float,
    speed: Speed,
    reasons: list[str],
) -> Stage:
    steps = math.floor(seconds * (1 - CURVE_SHARE) * speed.at[size] / batch)
    if steps < LEAST_STEPS:
        hours = LEAST_STEPS * batch / speed.at[size] / (1 - CURVE_SHARE) / (1 - REPORT_SHARE) / 3600
        raise InputError(
            f"got --hours for {steps} steps of {batch} pictures on this machine, expected {LEAST_STEPS} or more: give "
            f"--hours {math.ceil(hours * 100) / 100:g} at least"
        )
    measured = _affordable(CURVE_SHARE * seconds / CURVE_POINTS, speed.at[size], kinds=2)
    reasons.append(
        f"About {steps} steps at the {speed.at[size]:.1f} pictures a second that were measured; the learning rate "
        f"falls in their second half. {CURVE_POINTS} times on the way the model is measured, and the best one is kept."
    )
    return Stage("base", size, init, preset, batch, seconds, steps, min(max(measured, 8), 128))


def _upsampler(size: int, batch: int, seconds: float, reasons: list[str]) -> Stage:
    batch = min(batch, 16)
    reasons.append("The upsampler begins with the embedded one, and learns from crops of 64 pixels.")
    return Stage("upsampler", 4 * size, UPSAMPLER_INIT, None, batch, seconds, LEAST_STEPS, 8)


def _affordable(seconds: float, pictures_per_second: float, kinds: int) -> int:
    """Pictures of each of so many kinds that can be drawn in a time."""
    each = FORWARD_PASSES / TRAINING_PASSES / pictures_per_second
    return int(seconds / each / kinds)


def in_words(plan: Plan, facts: DataFacts) -> list[str]:
    """The plan for people, a sentence a line."""
    lines = [f"- {reason}" for reason in plan.reasons]
    times = [f"{stage.name} {duration(stage.seconds)}" for stage in plan.stages]
    lines.append(f"- Expected: {', '.join(times)}, report {duration(plan.report_seconds)}.")
    if facts.pictures < 1000 and facts.described == "captions":
        lines.append(
            f"- Of {facts.pictures} pictures a model learns to draw these pictures, by heart, and little about others: "
            "the report says how much."
        )
    return lines


def duration(seconds: float) -> str:
    """5 h 6 min, 7 min, or 9 s."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
