"""The diffusion process of a scheduler of diffusers, read from its scheduler_config.json.

A scheduler is a process and a solver. The process is taken: betas, prediction, the rescaling to zero terminal SNR, the
bound of x0. The solver and its timesteps are this project's, chosen at each run.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from glide.checkpoints.model_folder import MAX_CONFIG
from glide.networks.process_config import ProcessConfig
from glide.utils.config_check import config_from_dict
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.json_files import as_table, parse_json
from glide.utils.numbers import Range, shown_number

SCHEDULERS = (
    "DDPM",
    "DDIM",
    "PNDM",
    "LMSDiscrete",
    "EulerDiscrete",
    "EulerAncestralDiscrete",
    "HeunDiscrete",
    "KDPM2Discrete",
    "KDPM2AncestralDiscrete",
    "DPMSolverMultistep",
    "DPMSolverSinglestep",
    "DPMSolverSDE",
    "DEISMultistep",
    "UniPCMultistep",
)
"""Those with a discrete process of betas, without "Scheduler" at the end."""
EXPLODING = {
    "ScoreSdeVe": {"scale": 2.0},
    "KarrasVe": {"sigma_min": 0.02, "sigma_max": 100.0, "num_train_timesteps": 1000},
}
"""Those of score-based models whose variance explodes, with their own defaults."""
CLIPPING = ("DDPM", "DDIM")  # clip x0 by default
OTHER_BETAS = ("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE")
"""Schedulers whose default betas are those of Stable Diffusion, 0.00085 to 0.012."""
UNKNOWN = ("trained_betas", "use_flow_sigmas", "snr_shift_scale", "sigma_min", "sigma_max")
"""Settings of other processes; each must be unset."""
SCHEDULES = {"scaled_linear": "quadratic", "sigmoid": "sigmoid_betas"}
"""diffusers' names of schedules, where ours is another."""
PREDICTIONS: dict[str, Literal["eps", "x0", "v"]] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}

Beta = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class SchedulerConfig:
    """The settings of a scheduler that say what its process is, with diffusers' defaults."""

    num_train_timesteps: Annotated[int, Range(1, 100_000)] = 1000
    beta_start: Beta = 0.0001
    beta_end: Beta = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    rescale_betas_zero_snr: bool = False
    timestep_type: Literal["discrete"] = "discrete"
    variance_type: (
        Literal["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log", "learned_range"] | None
    ) = None
    clip_sample: bool = False
    clip_sample_range: Annotated[float, Range(1e-6, 1e6)] = 1.0

    time_embedding: ClassVar[str] = "positional"
    """Of a network that knows this process."""

    @property
    def bound(self) -> float | None:
        """Largest absolute value of x0; None: there is none."""
        return self.clip_sample_range if self.clip_sample else None

    def process(self, in_channels: int, out_channels: int) -> ProcessConfig:
        """The process of a network with so many channels."""
        variance: Literal["learned", "fixed_small", "fixed_large"] = "fixed_small"
        if self.variance_type == "learned_range" or (
            self.variance_type is None and out_channels == 2 * in_channels
        ):
            variance = "learned"
        elif self.variance_type is not None and self.variance_type.startswith("fixed_large"):
            variance = "fixed_large"
        between = self.beta_schedule != "squaredcos_cap_v2"
        values = {
            "schedule": SCHEDULES.get(self.beta_schedule, self.beta_schedule),
            "steps": self.num_train_timesteps,
            "betas": (self.beta_start, self.beta_end) if between else (),
            "zero_terminal_snr": self.rescale_betas_zero_snr,
            "prediction": PREDICTIONS[self.prediction_type],
            "variance": variance,
        }
        return config_from_dict(ProcessConfig, values, "process")


@dataclass(frozen=True)
class ScoreConfig:
    """The settings of a scheduler whose process adds noise of growing deviation, which its network receives."""

    num_train_timesteps: Annotated[int, Range(1, 100_000)] = 2000
    sigma_min: Annotated[float, Range(1e-6, 1e5)] = 0.01
    sigma_max: Annotated[float, Range(1e-6, 1e5)] = 1348.0
    scale: Annotated[float, Range(1, 2)] = 1.0
    """Factor from its sigmas to those beside pictures in [-1, 1]: 2 where its pictures are in [0, 1]."""

    time_embedding: ClassVar[str] = "fourier"
    bound: ClassVar[None] = None

    def process(self, in_channels: int, out_channels: int) -> ProcessConfig:
        """The process of the network, by which x_t keeps its deviation (`glide.networks.diffusers_score`)."""
        sigmas = (self.scale * self.sigma_min, self.scale * self.sigma_max)
        values = {"schedule": "geometric", "steps": self.num_train_timesteps, "sigmas": sigmas}
        return config_from_dict(ProcessConfig, values | {"variance": "fixed_small"}, "process")


def read_scheduler(path: Path) -> SchedulerConfig | ScoreConfig:
    """The process in a scheduler's settings. InputError for a file that is damaged, and for an unknown process."""
    # diffusers writes -Infinity for a bound that is not set, which is no JSON
    text = re.sub(rb":\s*-?Infinity\b", b": null", read_bytes(path, MAX_CONFIG))
    record, where = as_table(parse_json(text, path), path), str(path)
    name = record.get("_class_name")
    short = name.removesuffix("Scheduler") if isinstance(name, str) else ""
    if short in EXPLODING:
        known = {field.name for field in dataclasses.fields(ScoreConfig)} - {"scale"}
        given = {key: value for key, value in record.items() if key in known and value is not None}
        return config_from_dict(ScoreConfig, EXPLODING[short] | given, where)
    if short not in SCHEDULERS:
        raise InputError(
            f"got {where} of a {shown_number(name)}, expected one of {', '.join([*SCHEDULERS, *EXPLODING])} (each with "
            "Scheduler at its end), whose processes are known: give another model"
        )
    for setting in UNKNOWN:
        if record.get(setting) not in (None, False):
            raise InputError(
                f"got {where} with {setting}, which makes another process than its betas do, expected none: give "
                "another model"
            )
    known = {field.name for field in dataclasses.fields(SchedulerConfig)}
    defaults: dict[str, Any] = {"clip_sample": short in CLIPPING}
    if short in OTHER_BETAS:
        defaults |= {"beta_start": 0.00085, "beta_end": 0.012}
    given = {key: value for key, value in record.items() if key in known and value is not None}
    if record.get("predict_epsilon") is False:  # before there was prediction_type
        given["prediction_type"] = "sample"
    return config_from_dict(SchedulerConfig, defaults | given, where)
