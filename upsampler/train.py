"""Train an upsampler, from its settings to its model folder (scripts/train_upsampler.py)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from glide.data.datasets import Dataset
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.training.distill import distillation
from glide.training.distill_flags import StudentSettings
from glide.training.model_config import ModelKind
from glide.training.train_base import Evaluation, train_base
from glide.utils.contact_sheet import contact_sheet, enlarged, row_height
from glide.utils.errors import InputError, warn
from glide.utils.images import save_png
from glide.utils.progress import progress
from upsampler.crops import LowResCrops
from upsampler.presets import EMBEDDED, UPSAMPLERS, check_upsampler
from upsampler.train_flags import TrainUpsampler

LOCAL_CROP = 64


Enlarger = Callable[[Model], Callable[[Tensor, str, int | None, int], Tensor]]
"""Makes, from a model in training, a function that enlarges uint8 [h,w,3] with its caption, class and seed."""


def train_upsampler(
    args: TrainUpsampler,
    enlarger: Enlarger | None = None,
    evaluation: Evaluation | None = None,
    distilled: StudentSettings | None = None,
) -> Model:
    """Build data, model and task, and train; returns the trained model. InputError for settings that do not fit.

    enlarger: for progress pictures. evaluation: for --evaluate-every, with `LowResCrops`. distilled: train a student.
    """
    args.low_res.check()
    opened: list[LowResCrops] = []

    def config_of(config: ModelConfig) -> ModelConfig:
        check_upsampler(config, str(args.init))
        # a published model that is trained with noise is conditioned on its level from now on
        return dataclasses.replace(config, low_res_noise=config.low_res_noise or args.low_res.noise[1] > 0)

    def crops_of(data: Dataset, config: ModelConfig) -> Dataset:
        if args.low_res.noise[1] > 0 and not config.low_res_noise:
            raise InputError(
                "--noise: this run's model is not conditioned on noise; start another run with --init."
            )
        crop = crop_size(args, config)
        opened.append(
            LowResCrops(data, args.low_res, config.unet.image_size, crop, config.scale, args.train.seed)
        )
        return opened[-1]

    def watch(model: Model, path: Path, captions: Sequence[str]) -> int | None:
        if enlarger is None:
            return None
        return watch_grid(enlarger(model), opened[0], path, min(args.watched, args.train.batch_size))

    kind = ModelKind(UPSAMPLERS, "shapes-upsampler", config_of, crops_of, (EMBEDDED,), draws=False)
    if distilled is None:
        return train_base(args, watch, kind, evaluation=evaluation)
    asked, kind, make_task = distillation(args, distilled, kind)
    return train_base(asked, watch, kind, evaluation=evaluation, make_task=make_task)


def crop_size(args: TrainUpsampler, config: ModelConfig) -> int:
    """Height and width of the training crops. InputError for a size that the network does not accept."""
    unet = config.unet
    default = min(LOCAL_CROP, unet.image_size) if unet.local else unet.image_size
    crop = default if args.crop_size is None else args.crop_size
    if crop < 1 or crop % unet.factor:
        raise InputError(
            f"--crop-size {crop}: expected a multiple of {unet.factor}, as the network's levels ask."
        )
    if crop < unet.image_size and not unet.local:
        warn(
            f"this network sees a picture as a whole: of crops of {crop} it learns other statistics than it meets in "
            f"pictures of {unet.image_size}",
            stacklevel=2,
        )
    return crop


def watch_grid(
    enlarge: Callable[[Tensor, str, int | None, int], Tensor], data: LowResCrops, path: Path, count: int
) -> int:
    """Write a preview in three columns: the low-resolution picture (pixels as squares), the enlarged one, the truth.

    The caption, or the class, is below. Returns the height of a row, in pixels.
    """
    whole = data.whole(0, count)
    rows = zip(whole.pixels, whole.low_res, whole.captions, whole.labels, strict=True)
    sheet: list[Tensor] = []
    captions: list[str] = []
    for seed, (truth, low_res, caption, label) in enumerate(
        progress(rows, total=count, desc="progress pictures")
    ):
        squares = low_res.repeat_interleave(data.scale, 0).repeat_interleave(data.scale, 1)
        sheet += [squares, enlarge(low_res, caption, label, seed), truth]
        captions += [caption or ("" if label is None else f"class {label}"), "enlarged", "as it was"]
    path.parent.mkdir(parents=True, exist_ok=True)
    large = enlarged(torch.stack(sheet))
    save_png(path, contact_sheet(large, captions, columns=3))
    return row_height(large.shape[1])
