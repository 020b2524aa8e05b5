"""Bits per dimension of a data set under a model: what scripts/nll.py calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from glide.checkpoints.load import load_model
from glide.data.datasets import Batch, Dataset, is_generated, on_device, open_data
from glide.diffusion.denoiser import Prediction, clamp, predictor, project
from glide.diffusion.process import respacing
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.variational_bound import Bits, bits_per_dimension
from glide.networks.model import Model
from glide.utils.atomic_write import write_text
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free, write_beside
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers


@dataclass(frozen=True)
class Nll:
    """Settings of a likelihood evaluation."""

    model: str = "shapes"
    """A folder, an embedded name, a published OpenAI .pt, or a hub id."""
    data: str = "shapes"
    """As for training: shapes, WebDataset shards, a folder of captioned pictures, or one of class folders."""
    images: int = 64
    batch_size: int = 16
    respacing: str | None = None
    """Evaluate the shorter chain ("100", "fast27", ...); by default every training timestep."""
    variance: Literal["model", "learned", "fixed_small", "fixed_large"] = "model"
    held_out: float = 0.0
    """Evaluate on this share of stored pictures, the one that training with the same --held-out left out."""
    seed: int = 0
    device: str = "cpu"
    out: Path | None = None
    """Write the figures, per image and per timestep, as JSON."""
    overwrite: bool = False
    """Replace a file --out that is there already."""


def nll(args: Nll) -> float:
    """The mean bound on the negative log-likelihood, bits per dimension (2006.11239, eq. 5); prints its parts."""
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
    data = _open(args, model)
    process = model.process
    if args.respacing is not None:
        process = process.respaced(respacing(args.respacing, len(process)))
    variance = config.process.variance if args.variance == "model" else args.variance
    predict = predictor(model.unet, model.process, config.process.prediction)

    totals, priors, terms, mses = [], [], [], []
    most = min(args.batch_size, args.images)
    sizes = [most] * (args.images // most)
    sizes += [args.images % most] if args.images % most else []
    bar = progress(total=len(sizes) * len(process), unit="step", desc="bits per dimension")
    for index, size in enumerate(sizes):
        batch = data.batch(index, most)
        x0 = on_device(batch, model.device, slice(size))["image"]
        with torch.no_grad():
            cond = model.condition(_inputs(args, model, batch, size))

        def denoise(x: Tensor, t: int) -> Prediction:
            return predict(x, t, [cond])[0]

        first = args.seed + index * most
        noise = SeededNoise(range(first, first + size))
        chain = list(_each(bits_per_dimension(project(denoise, clamp), process, x0, noise, variance), bar))
        totals.append(chain[-1].total)
        priors.append(chain[-1].prior)
        terms.append(torch.stack([step.vb for step in chain]))
        mses.append(torch.stack([step.mse for step in chain]))
    bar.close()
    total, prior = torch.cat(totals), torch.cat(priors)
    mean = total.mean().item()
    spread = total.std().item() / len(total) ** 0.5 if len(total) > 1 else float("nan")
    say(
        f"bits per dimension: {mean:.4f} (standard error {spread:.4f}, {len(total)} images, {len(process)} steps)",
        result=True,
    )
    mse = torch.cat(mses, 1).mean().item()
    say(f"  of which the prior: {prior.mean().item():.2e}; eps mse over the chain: {mse:.4f}", result=True)
    if args.out is not None:
        per_step = torch.cat(terms, 1).mean(1).tolist()
        steps = {
            int(t): value for t, value in zip(reversed(process.timesteps.tolist()), per_step, strict=True)
        }
        record = {
            "model": args.model,
            "data": args.data,
            "bits_per_dimension": mean,
            "images": total.tolist(),
        }
        text = json.dumps({**record, "prior": prior.mean().item(), "terms": steps}, indent=1)
        write_beside(args.out, partial(write_text, text=text, replace=args.overwrite))
    return mean


def _open(args: Nll, model: Model) -> Dataset:
    """The data that the model is measured on: held out, where there are such."""
    split: Literal["train", "held_out"] = "held_out" if args.held_out or is_generated(args.data) else "train"
    return open_data(
        args.data,
        model.config.unet.image_size,
        seed=args.seed,
        held_out=args.held_out,
        split=split,
        channels=model.config.unet.in_channels,
        unconditional=model.text is None and not model.config.num_classes,
    )


def _inputs(args: Nll, model: Model, batch: Batch, size: int) -> dict[str, Tensor]:
    """Inputs of `Model.condition` for the first `size` rows. InputError for data without the captions or classes."""
    inputs = model.nothing_known(size)
    if model.text is not None:
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


def _each(steps: Iterator[Bits], bar: Any) -> Iterator[Bits]:
    for step in steps:
        bar.update()
        yield step
