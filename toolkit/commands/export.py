"""Export a model as a pipeline of diffusers."""

from __future__ import annotations

from pathlib import Path

import torch

from glide.checkpoints.diffusers_export import check_free, export_pipeline
from glide.checkpoints.load import load_with_vocabulary
from glide.utils.printable import say
from toolkit.commands.export_flags import Export


def export(args: Export) -> None:
    """Write the folder, and say what can be done with it. InputError for a model that cannot be exported."""
    folder = Path(args.to[1]).expanduser()
    check_free(folder, args.overwrite)
    model = load_with_vocabulary(args.model, torch.device("cpu"), args.vocab)
    export_pipeline(model, folder, args.overwrite)
    say(f"pipeline: {folder.resolve()}", result=True)
    if model.config.num_classes:
        say(
            "diffusers has no pipeline that passes classes to such a network: call its unet with class_labels, or draw "
            f"here by python scripts/sample.py --model {folder} --label 0"
        )
