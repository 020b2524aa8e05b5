"""Measure which facts of its captions a model uses, print the table, write the errors."""

from __future__ import annotations

from dataclasses import asdict

import torch

from glide.checkpoints.load import load_model
from glide.checkpoints.trained_on import check_built_in_scenes
from glide.shapes.dataset import held_out_scenes
from glide.utils.device import find_device
from glide.utils.dtype import find_dtype
from glide.utils.file_locks import check_free
from glide.utils.printable import say
from glide.utils.ranges import check_numbers
from toolkit.commands.binding_flags import Bind
from toolkit.commands.report import write_json
from toolkit.evaluation.attribute_binding import Binding, binding, table


def bind(args: Bind) -> list[Binding]:
    """Measure, print the table, write the file. InputError for settings that do not fit."""
    check_numbers(args)
    if args.out is not None:
        check_free(args.out, args.overwrite)
    check_built_in_scenes(args.model)
    model = load_model(args.model, find_device(args.device)).eval()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scenes = held_out_scenes(args.pictures, args.kinds, args.seed)
    found = binding(model, scenes, args.timesteps, find_dtype(args.dtype, model.device), args.seed)
    say(
        f"error of x0 with a wrong fact in the caption, against the right one ({len(scenes)} held-out scenes):",
        result=True,
    )
    say(table(found), result=True)
    if args.out is not None:
        write_json(args.out, [asdict(one) for one in found], args.overwrite)
    return found
