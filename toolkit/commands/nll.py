"""Measure bits per dimension of a data set under a model, and write them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import Tensor

from glide.checkpoints.load import load_model
from glide.data.datasets import Batch, Dataset, is_generated, on_device, open_data
from glide.diffusion.process import Process, respacing
from glide.networks.model import Model
from glide.networks.picture_sizes import default_size
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from toolkit.commands.nll_flags import Nll
from toolkit.commands.report import write_json
from toolkit.evaluation.bits_per_dim import BitsPerDim, bits_per_dim


def nll(args: Nll) -> float:
    """The mean bound on the negative log-likelihood, bits per dimension (2006.11239, eq. 5); prints its parts.

    InputError for a model, data or settings that do not fit.
    """
    check_numbers(args)
    if args.out is not None:
        check_free(args.out, args.overwrite)
    model = load_model(args.model, find_device(args.device))
    config = model.config
    if config.low_res:
        raise InputError(
            f"got {args.model}, which is shown another picture beside the noisy one, expected a model that draws from "
            "captions or classes alone: give a base model"
        )
    if config.first_stage is not None:
        raise InputError(
            f"got {args.model}, which draws latents, whose bits are no picture's, expected a model that draws pixels: "
            "give one"
        )
    data = _open(args, model)
    process = model.process
    if args.respacing is not None:
        process = process.respaced(respacing(args.respacing, len(process)))
    variance = config.process.variance if args.variance == "model" else args.variance
    steps = -(-args.images // min(args.batch_size, args.images)) * len(process)
    with progress(total=steps, unit="step", desc="bits per dimension") as bar:
        found = bits_per_dim(model, _batches(args, model, data), process, variance, args.seed, bar.update)
    say(
        f"bits per dimension: {found.mean:.4f} (standard error {found.standard_error:.4f}, {len(found.total)} images, "
        f"{len(process)} steps)",
        result=True,
    )
    prior, mse = found.prior.mean().item(), found.mse.mean().item()
    say(f"  of which the prior: {prior:.2e}; eps mse over the chain: {mse:.4f}", result=True)
    if args.out is not None:
        write_json(args.out, _record(args, process, found), args.overwrite)
    return found.mean


def _record(args: Nll, process: Process, found: BitsPerDim) -> dict[str, object]:
    """The figures of --out; a term of the bound by its training timestep."""
    timesteps = reversed(process.timesteps.tolist())
    terms = zip(timesteps, found.terms.mean(1).tolist(), strict=True)
    return {
        "model": args.model,
        "data": args.data,
        "bits_per_dimension": found.mean,
        "images": found.total.tolist(),
        "prior": found.prior.mean().item(),
        "terms": {int(t): value for t, value in terms},
    }


def _open(args: Nll, model: Model) -> Dataset:
    """The data that the model is measured on: held out, where there are such."""
    split: Literal["train", "held_out"] = "held_out" if args.held_out or is_generated(args.data) else "train"
    return open_data(
        args.data,
        model.config.picture_size,
        sizes=(default_size(model.config),),
        seed=args.seed,
        held_out=args.held_out,
        split=split,
        channels=model.config.picture_channels,
        unconditional=not model.config.reads_captions and not model.config.num_classes,
    )


def _batches(args: Nll, model: Model, data: Dataset) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """x0 [n,C,H,W] and the inputs of `Model.condition`, --images in all."""
    most = min(args.batch_size, args.images)
    for index, start in enumerate(range(0, args.images, most)):
        size = min(most, args.images - start)
        batch = data.batch(index, most)
        yield on_device(batch, model.device, slice(size))["image"], _inputs(args, model, batch, size)


def _inputs(args: Nll, model: Model, batch: Batch, size: int) -> dict[str, Tensor]:
    """Inputs of `Model.condition` for the first `size` rows. InputError for data without the captions or classes."""
    inputs = model.nothing_known(size)
    if model.config.reads_captions:
        if "caption" not in batch:
            raise InputError(
                f"got {args.data} without captions, expected some for {args.model}: give captioned pictures"
            )
        inputs |= model.caption_batch(batch["caption"][:size])
    if model.config.num_classes:
        if "y" not in batch:
            raise InputError(
                f"got {args.data} without classes, expected some for {args.model}: give a folder of class folders"
            )
        inputs["y"] = batch["y"][:size].to(model.device)
    return inputs
