"""The training of an autoencoder, from its flags to its folder."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.autoencoders import load_autoencoder, save_autoencoder
from glide.checkpoints.image_encoders import image_encoder_named
from glide.data.datasets import Dataset, is_generated, on_device, open_data
from glide.data.skipped_files import record_broken, report_broken
from glide.data.stored_dataset import StoredData
from glide.diffusion.timestep_sampling import UniformTimesteps
from glide.networks.autoencoder import Autoencoder
from glide.networks.autoencoder_config import AUTOENCODERS, AutoencoderConfig
from glide.training.distributed import Processes, start
from glide.training.evaluation_curves import mean_with_interval
from glide.training.fit import RunFlags, fit, jsonable, last_line
from glide.training.given_settings import ChosenConfig, check_kept, read_settings
from glide.training.reconstruction import NOISE_LEVELS, Features, Reconstruction, latent_statistics
from glide.training.run_folder import model_folder, run_folder
from glide.training.train_autoencoder_flags import (
    AUTOENCODER_FLAGS,
    FROZEN_FLAGS,
    STATE_FLAGS,
    TrainAutoencoder,
)
from glide.utils.errors import InputError
from glide.utils.images import grid, save_png, to_uint8
from glide.utils.printable import say
from glide.utils.program import command_line
from glide.utils.ranges import check_numbers

DEFAULT = "f4"
SHOWN = 8
"""Pictures of a progress picture."""
MEASURED = 128
"""Pictures over which the deviation of the latents is measured."""
AT_ONCE = 8
"""Pictures that are encoded at once where no gradient is needed."""


def encoder_features(name: str, channels: int, device: torch.device) -> Features:
    """The feature maps of an image encoder. InputError for one that has none, or takes other channels."""
    _, encoder = image_encoder_named(name)
    encoder.features(torch.zeros(1, channels, encoder.size, encoder.size))  # says what does not fit
    return encoder.features


FindFeatures = Callable[[str, int, torch.device], Features]
"""From a name, the channels of the pictures and their device to feature maps."""


def train_autoencoder(args: TrainAutoencoder, find_features: FindFeatures = encoder_features) -> Autoencoder:
    """Build data and model, and `fit`; returns the trained autoencoder. InputError for settings that do not fit.

    find_features: of --perceptual.
    """
    check_numbers(args)
    args.loss.check()
    args.train.check()
    if args.show_config:
        say(_config_to_show(args).as_toml(), result=True)
        sys.exit(0)
    processes = start(args.device)
    flags = {"resume": args.resume, "overwrite": args.overwrite, "dry_run": args.train.dry_run}
    with run_folder(args.out, processes, **flags) as resume:
        trained = _train(args, processes, resume, find_features)
        processes.finish()
    return trained


def choose_config(args: TrainAutoencoder) -> ChosenConfig:
    """The configuration of a new run. InputError for settings that give no autoencoder."""
    if args.init is not None:
        base, origin = load_autoencoder(args.init).config, f"--init {args.init}"
    else:
        name = args.preset or DEFAULT
        if name not in AUTOENCODERS:
            raise InputError(
                f"got the preset {name!r}, expected one of {', '.join(AUTOENCODERS)}: choose one"
            )
        base, origin = AUTOENCODERS[name], f"preset {name}"
    settings = read_settings(AUTOENCODER_FLAGS, args.config, args.model, {})
    return ChosenConfig(AUTOENCODER_FLAGS, AUTOENCODER_FLAGS.apply(base, settings), origin, settings)


def _config_to_show(args: TrainAutoencoder) -> ChosenConfig:
    if not args.resume:
        return choose_config(args)
    config = load_autoencoder(args.out).config
    return ChosenConfig(AUTOENCODER_FLAGS, config, f"the run in {args.out}", {})


def _model(args: TrainAutoencoder, resume: Path | None) -> Autoencoder:
    """The autoencoder that a run begins with. resume: the checkpoint to go on from."""
    if resume is not None:
        model = load_autoencoder(model_folder(resume, args.out))
        check_kept(
            AUTOENCODER_FLAGS, read_settings(AUTOENCODER_FLAGS, args.config, args.model, {}), model.config
        )
        return model.requires_grad_(True)
    chosen = choose_config(args)
    model = Autoencoder(dataclasses.replace(chosen.config, mean=(), std=()))
    if args.init is not None:
        source = load_autoencoder(args.init)
        check_kept(AUTOENCODER_FLAGS, chosen.settings, source.config, f"--init {args.init}", "or --init")
        model.load_state_dict(source.state_dict())
    return model


def _train(
    args: TrainAutoencoder, processes: Processes, resume: Path | None, find: FindFeatures
) -> Autoencoder:
    """`train_autoencoder` in the run's own folder. resume: the checkpoint to go on from."""
    args = dataclasses.replace(args, train=args.train.settled(processes, resume))
    torch.manual_seed(args.train.seed)
    model = _model(args, resume)
    features = _features(args, model.config, processes.device, find)
    data = _open(args, model.config, crop=args.crop, flip=args.flip)
    data.check_batch(args.train.batch_size)
    model.to(processes.device)
    shown = measured = None
    if processes.main:
        shown = _pictures(data, SHOWN)
        if args.held_out or is_generated(args.data):
            measured = _pictures(_open(args, model.config, split="held_out"), args.held_out_images)
        elif args.train.evaluate_every:
            raise InputError(
                f"got --evaluate-every {args.train.evaluate_every} without held-out pictures, whose PSNR it measures, "
                "expected some: give --held-out, or leave it out"
            )
    trained = fit(
        model,
        Reconstruction(args.loss, features),
        lambda step: processes.batches(data, step, args.train.batch_size, args.workers),
        UniformTimesteps(NOISE_LEVELS),
        args.train,
        args.out,
        resume=resume,
        save=_saver(args, data),
        sample=_watcher(measured if measured is not None else shown),
        validate=None if measured is None else lambda model: validate(model, measured),
        evaluate=None if measured is None else lambda model: evaluate(model, measured),
        note=lambda: record_broken(args.out, data.broken),
        processes=processes,
        settings=RunFlags.of(args, FROZEN_FLAGS, STATE_FLAGS),
    )
    if processes.main and not args.train.dry_run:
        report_broken(args.out)
    return trained


def _features(
    args: TrainAutoencoder, config: AutoencoderConfig, device: torch.device, find: FindFeatures
) -> Features | None:
    """The feature maps of --perceptual. InputError for those that do not fit."""
    if args.perceptual is not None:
        return find(args.perceptual, config.in_channels, device)
    if args.loss.perceptual_weight != 1.0:
        raise InputError(
            f"got --perceptual-weight {args.loss.perceptual_weight:g} without --perceptual, expected both: name an "
            "image encoder, or leave it out"
        )
    return None


def _open(args: TrainAutoencoder, config: AutoencoderConfig, **options: Any) -> Dataset:
    factor = config.factor
    if args.image_size % factor:
        raise InputError(f"got --image-size {args.image_size}, expected a multiple of {factor}: change it")
    return open_data(
        args.data,
        args.image_size,
        seed=args.train.seed,
        max_broken=args.max_broken,
        held_out=args.held_out,
        channels=config.in_channels,
        unconditional=True,
        **options,
    )


def _pictures(data: Dataset, count: int) -> Tensor:
    """At most `count` pictures of a data set, float32 [N,C,H,W] in [-1, 1]."""
    if isinstance(data, StoredData):
        count = min(count, len(data))
    return on_device(data.batch(0, count), "cpu")["image"]


@torch.no_grad()
def reconstructed(model: Autoencoder, images: Tensor) -> Tensor:
    """Pictures [N,C,H,W] in [-1, 1], encoded and decoded, on the CPU."""
    parts = [part.to(model.device) for part in images.split(AT_ONCE)]
    return torch.cat([model.reconstruct(model.moments(part)[0]).float().cpu() for part in parts])


def validate(model: Autoencoder, images: Tensor) -> dict[str, Any]:
    """{"validation_psnr": the mean PSNR in dB of held-out pictures [N,C,H,W], rounded to bytes}."""
    return {"validation_psnr": _psnr(model, images).mean().item()}


def evaluate(model: Autoencoder, images: Tensor) -> dict[str, float]:
    """The same as "psnr", with the interval of a mean: "psnr_low", "psnr_high"."""
    return mean_with_interval("psnr", _psnr(model, images))


def _psnr(model: Autoencoder, images: Tensor) -> Tensor:
    """PSNR in dB of each picture, float64 [N]."""
    there, here = to_uint8(images).double(), to_uint8(reconstructed(model, images)).double()
    squared = (there - here).square().flatten(1).mean(dim=1).clamp(min=1e-6)
    return 10.0 * torch.log10(255.0**2 / squared)


def _watcher(images: Tensor | None) -> Callable[[Autoencoder, Path], None]:
    """The function that draws pictures above their reconstructions."""

    def watch(model: Autoencoder, path: Path) -> None:
        if images is None:
            return
        some = images[:SHOWN]
        rows = torch.cat([to_uint8(some), to_uint8(reconstructed(model, some))])
        path.parent.mkdir(parents=True, exist_ok=True)
        save_png(path, grid(rows, columns=len(some)))

    return watch


def _saver(args: TrainAutoencoder, data: Dataset) -> Callable[[Autoencoder, Path, int], None]:
    """The function that writes the folder, with the statistics of the latents and the record of the training."""
    record = {"command": command_line(), **jsonable(dataclasses.asdict(args))}
    images = list(_pictures(data, MEASURED).split(AT_ONCE))

    def save(model: Autoencoder, out: Path, step: int) -> None:
        mean, std = latent_statistics(model, images)
        model.config = dataclasses.replace(model.config, mean=mean, std=std)
        training = {**record, "step": step, "log": last_line(out / "log.jsonl")}
        save_autoencoder(out, model, training, getattr(torch, args.save_dtype), overwrite=True)

    return save
