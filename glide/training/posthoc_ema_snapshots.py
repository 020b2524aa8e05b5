"""Snapshots of power-function averages in a run's folder, and the model that is combined from them after training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glide.training.posthoc_ema import Profile, misfit, mixture_weights
from glide.utils.atomic_write import atomic_path, cannot_write
from glide.utils.errors import InputError
from glide.utils.progress import progress

FOLDER = "averages"
_NAME = re.compile(r"step-(\d+)-sigma-([0-9.]+)\.safetensors")


def write_snapshot(out: Path, step: int, sigma_rel: float, weights: Mapping[str, Tensor]) -> None:
    """Write an average at `step` into the run's folder, atomically. CannotWrite where that fails."""
    path = out / FOLDER / f"step-{step:07d}-sigma-{sigma_rel:g}.safetensors"
    try:
        with atomic_path(path) as temporary:
            save_file({k: p.contiguous() for k, p in weights.items()}, temporary)
    except SafetensorError as error:
        raise cannot_write(path, error) from error


def snapshots(run: Path) -> dict[Profile, Path]:
    """The snapshots in a run's folder, in order of time."""
    found = {}
    for path in (run / FOLDER).glob("*.safetensors"):
        if match := _NAME.fullmatch(path.name):
            found[Profile(float(match[1]), float(match[2]))] = path
    return dict(sorted(found.items()))


def combine_snapshots(
    run: Path, sigma_rel: float, step: int | None = None
) -> tuple[dict[str, Tensor], float]:
    """The weights of the average of that width, float32, and the misfit of its profile (0: exact).

    InputError without snapshots of that step, and for a damaged file.
    """
    found = snapshots(run)
    stored = list(found)
    last = max((profile.t for profile in stored), default=0.0)
    target = Profile(float(step) if step is not None else last, sigma_rel)
    factors = mixture_weights(stored, target)
    total: dict[str, Tensor] = {}
    both = zip(stored, factors.tolist(), strict=True)
    for profile, factor in progress(both, total=len(stored), desc="combining", unit="snapshot"):
        if not factor:
            continue
        try:
            part = load_file(found[profile])
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{found[profile]} is damaged ({error}): remove it, and less exact averages remain"
            ) from error
        for name, tensor in part.items():
            addition = factor * tensor.double()  # factors have both signs, and may be large
            total[name] = total[name] + addition if name in total else addition
    return {name: tensor.float() for name, tensor in total.items()}, misfit(stored, factors, target)
