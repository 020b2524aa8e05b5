"""Valid ranges of all numbers of scripts and settings, by the names of their fields, and their check.

Imports nothing heavy, so that `--help` is fast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_type_hints

from glide.utils.numbers import ANY, MANY, MOST, Range

MAX_SEED = 2**63 - 1


COUNT = Range(1, MOST)
MEASURED = Range(1, 1_000_000)  # pictures that are drawn and judged one by one
FROM_ZERO = Range(0, MOST)
SHARE = Range(0.0, 1.0)
SHARE_BELOW_1 = Range(0.0, 1.0, below=True)
SCALE = Range(0.0, 1e6, do="try 3")
FACTOR = Range(0.0, 1e6)
POSITIVE = Range(0.0, 1e6, above=True)
STRENGTH = Range(0.0, 1.0, above=True, do="0.6 is usual")
ETA = Range(0.0, 1.0, do="0 adds no noise, 1 as much as DDPM")
NOISE = Range(0.0, 1.0, below=True, do="0 is none, 0.1 is little")
TEMPERATURE = Range(0.0, 1e3, do="1 changes nothing, 0.997 is a little calmer")
RELATIVE_WIDTH = Range(0.0, 0.28, above=True, below=True, do="0.05 to 0.15 is usual")
SEED = Range(0, MAX_SEED)
PIXELS = Range(1, 16384)
STEPS = Range(1, MANY)
FINITE = Range(-1e6, 1e6)

RANGES: dict[str, Range] = {
    "accumulate": COUNT,
    "all_unknown": SHARE,
    "apg_eta": FACTOR,
    "apg_momentum": Range(-1.0, 1.0, above=True, below=True),
    "apg_norm": Range(0.0, 1e6, above=True, do="leave it out for none"),
    "batch_size": COUNT,
    "beside": SHARE,
    "best_of": MEASURED,
    "betas": SHARE_BELOW_1,
    "blur": Range(0.0, 1e3, do="0 is none"),
    "cads_mix": SHARE,
    "call_size": COUNT,
    "calls": COUNT,
    "captions": MEASURED,
    "channels": Range(1, 4),
    "clean": SHARE,
    "clip": Range(0.0, 1e9, do="0 is no clipping"),
    "consistency_b": FACTOR,
    "consistency_k": FACTOR,
    "consistency_q": Range(1.0, 1e6, above=True, do="2 is usual, 4 is faster"),
    "context": Range(
        0.0, 1e6, above=True, infinite=True, do="3 is usual, inf is all that fits into a square"
    ),
    "TrainClip.context": Range(1, 1_000_000),
    "cooldown": SHARE,
    "crop_size": PIXELS,
    "deep_every": Range(1, MOST, do="1 leaves out none, 2 or 3 is usual"),
    "deepen": Range(0, 1000),
    "dropout": SHARE_BELOW_1,
    "ema": SHARE_BELOW_1,
    "ema_snapshots": RELATIVE_WIDTH,
    "equivariance": FACTOR,
    "evaluate_every": FROM_ZERO,
    "evaluate_pictures": Range(2, 1_000_000, do="256 is usual"),
    "eta": ETA,
    "feather": Range(0, 16384),
    "frames": Range(2, MOST),
    "gamma": FACTOR,
    "gradient_weight": FACTOR,
    "gradients": FACTOR,
    "held_out": SHARE_BELOW_1,
    "held_out_images": MEASURED,
    "held_out_pairs": Range(2, 1_000_000),
    "hours": Range(0.0, 1e5, above=True, do="3 is usual"),
    "huber_delta": POSITIVE,
    "image_size": Range(8, 16384),
    "images": MEASURED,
    "augment": SHARE,
    "inner_weight": FACTOR,
    "iterations": Range(1, 10_000),
    "jpeg": Range(0, 95, do="it is the lowest quality, 0 is no compression"),
    "jump": COUNT,
    "keep": COUNT,
    "kl": FACTOR,
    "l1": FACTOR,
    "l2": FACTOR,
    "perceptual_weight": FACTOR,
    "prior_scale": SCALE,
    "latent_noise": Range(0.0, 10.0, do="0 is none, 0.05 is little"),
    "keep_every": FROM_ZERO,
    "levels": Range(1, 100_000),
    "list": FROM_ZERO,
    "log_every": COUNT,
    "lr": Range(0.0, 1e3, do="1e-4 is usual"),
    "max_broken": SHARE,
    "max_skipped": COUNT,
    "max_weight": POSITIVE,
    "muon_lr": Range(0.0, 1e3, do="0 is no Muon, 0.02 is usual"),
    "noise": NOISE,
    "null_captions": SHARE_BELOW_1,
    "null_conditions": SHARE_BELOW_1,
    "num_samples": COUNT,
    "Inpaint.num_samples": Range(1, 10_000, do="paint more by another --seed"),
    "open_captions": MEASURED,
    "p2_gamma": FACTOR,
    "p2_k": POSITIVE,
    "real": COUNT,
    "pictures": MEASURED,
    "EvaluateImages.pictures": Range(2, 10_000_000),
    "Sweep.pictures": Range(2, 1_000_000),
    "reference_steps": STEPS,
    "resamplings": Range(2, MOST),
    "rescale": SHARE,
    "sample_every": COUNT,
    "save_every": COUNT,
    "scale": SCALE,
    "scales": SCALE,
    "word_scales": SCALE,
    "picture_scales": SCALE,
    "scenes": MEASURED,
    "seed": SEED,
    "sigma_rel": RELATIVE_WIDTH,
    "size": PIXELS,
    "snapshot_every": COUNT,
    "stages": Range(1, 1000),
    "step": FROM_ZERO,
    "steps": STEPS,
    "strength": STRENGTH,
    "strengths": Range(0.0, 1000.0, do="1 8 is usual"),
    "student_steps": STEPS,
    "substeps": Range(2, 1000, do="2 halves the steps"),
    "temp": TEMPERATURE,
    "threshold": Range(0.0, 1.0, above=True, do="0.995 is usual; leave it out for none"),
    "timestep_deviation": POSITIVE,
    "timestep_mean": FINITE,
    "timestep_power": Range(0.0, 1e3),
    "timesteps": FROM_ZERO,
    "token_captions": SHARE_BELOW_1,
    "upsample_eta": ETA,
    "upsample_noise": NOISE,
    "upsample_steps": STEPS,
    "upsample_temp": TEMPERATURE,
    "validation_batches": Range(0, 1_000_000),
    "vlb_weight": FACTOR,
    "vocab_size": Range(257, 1_000_000, do="512 is usual for simple captions"),
    "warmup": FROM_ZERO,
    "watched": Range(1, 1000),
    "weight_decay": Range(0.0, 1e3, do="0 is none, 0.05 is usual"),
    "worker_processes": Range(0, 1024),
    "workers": Range(1, 1024),
    "worst": Range(0, 10_000),
    "wrong_captions": Range(0, 10_000),
}
"""Ranges by the name of a field, or "Class.field" for a class with its own range."""


def range_of(owner: type, field: str) -> Range:
    """The range of a class's field: of that class or a base class of it, the one that its type declares, else of any
    field with that name."""
    for kind in owner.__mro__:
        if f"{kind.__name__}.{field}" in RANGES:
            return RANGES[f"{kind.__name__}.{field}"]
    return _declared(owner).get(field) or RANGES.get(field, ANY)


@cache
def _declared(owner: type) -> dict[str, Range]:
    """The ranges in the types of a class's fields: Annotated[int, Range(...)]."""
    hints = get_type_hints(owner, include_extras=True)
    found = {
        name: [part for part in _leaves(hint) if isinstance(part, Range)] for name, hint in hints.items()
    }
    return {name: ranges[0] for name, ranges in found.items() if ranges}


@cache
def kinds(owner: type[Any]) -> dict[str, type]:
    """int or float for each field of a dataclass that holds numbers, or a tuple of them."""
    hints = get_type_hints(owner)
    found = {field.name: set(_leaves(hints[field.name])) for field in dataclasses.fields(owner)}
    return {
        name: kind
        for name, types in found.items()
        for kind in (int, float)
        if kind in types and str not in types
    }


def check_numbers(settings: Any) -> None:
    """InputError, in one sentence, for a number out of range in a dataclass, or in one nested in it."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            check_numbers(value)
            continue
        kind = kinds(settings.__class__).get(field.name)
        if kind is None:
            continue
        allowed, name = range_of(type(settings), field.name), flag(field.name)
        for one in value if isinstance(value, tuple | list) else (value,):
            if one is not None:
                (allowed.whole if kind is int else allowed.real)(one, name)


def flag(field: str) -> str:
    """The flag of a field on a command line."""
    return "--" + field.replace("_", "-")


def _leaves(hint: Any) -> Iterator[Any]:
    """The types in a type hint, and what it is annotated with."""
    inner = get_args(hint)
    if not inner:
        yield hint
    for one in inner:
        yield from _leaves(one)
