"""Combine snapshots into an average of the weights that is chosen after training, and write it as a model."""

from __future__ import annotations

import torch

from glide.checkpoints.model_folder import check_no_model, read_config, read_tokenizer, write_folder
from glide.checkpoints.text_encoders import copy_encoder
from glide.training.posthoc_ema_snapshots import combine_snapshots
from glide.utils.printable import say
from toolkit.commands.posthoc_ema_flags import Posthoc


def posthoc(args: Posthoc) -> float:
    """Write the model of the wanted average; returns how far its profile is from the wanted one."""
    check_no_model(args.out, args.overwrite)
    record = read_config(args.run)
    weights, far = combine_snapshots(args.run, args.sigma_rel, args.step)
    training = {
        **(record["training"] or {}),
        "posthoc": {"run": str(args.run), "sigma_rel": args.sigma_rel, "step": args.step, "misfit": far},
    }
    write_folder(
        args.out,
        record["kind"],
        record["model"],
        weights,
        tokenizer=read_tokenizer(args.run, record),
        training=training,
        dtype=getattr(torch, args.save_dtype),
        overwrite=True,
    )
    copy_encoder(args.run, args.out)
    say(f"{args.out}: the average of relative width {args.sigma_rel}, its profile {far:.1%} off")
    return far
