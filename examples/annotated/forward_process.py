"""Draw the forward process: one picture at several timesteps of several noise schedules.

    python examples/annotated/forward_process.py --data idx:/usr/share/datasets/fashion-mnist --out forward.png

Shape letters: S schedules, K timesteps, H W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from glide.data.datasets import open_source
from glide.data.stored_dataset import StoredData
from glide.diffusion.noise_schedules import SCHEDULES, make_process
from glide.utils.cli import parse, run
from glide.utils.contact_sheet import labelled_grid
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free
from glide.utils.images import from_uint8, save_png, to_uint8
from glide.utils.printable import say


@dataclass(frozen=True)
class ForwardProcess:
    """The flags."""

    data: str
    """As --data of the training scripts."""
    out: Path = Path("forward.png")
    overwrite: bool = False
    picture: int = 0
    """The number of the picture in the data, from 0."""
    image_size: int = 28
    channels: int = 1
    steps: int = 300
    """T, the training timesteps."""
    timesteps: tuple[int, ...] = (0, 50, 100, 150, 200, 299)
    """Timesteps that are drawn; 0 is the cleanest."""
    schedule: tuple[str, ...] = ("linear", "quadratic", "sigmoid_betas", "cosine")
    betas: tuple[float, float] = (1e-4, 0.02)
    """First and last beta of the schedules that have them."""
    seed: int = 0


def forward_process(args: ForwardProcess) -> Tensor:
    """The figure, uint8 [H',W',3]. InputError for data that cannot be read and for timesteps that there are not."""
    if not args.timesteps or not 0 <= min(args.timesteps) <= max(args.timesteps) < args.steps:
        raise InputError(
            f"got --timesteps {args.timesteps}, expected some from 0 to {args.steps - 1}: correct them"
        )
    unknown = [name for name in args.schedule if name not in SCHEDULES]
    if unknown or not args.schedule:
        raise InputError(f"got --schedule {unknown}, expected some of {', '.join(SCHEDULES)}: correct them")
    size = (args.image_size, args.image_size)
    data = StoredData(open_source(args.data, True), size, 0, False, False, 0.0, args.channels)
    if not 0 <= args.picture < len(data):
        raise InputError(
            f"got --picture {args.picture}, expected one from 0 to {len(data) - 1}: choose another"
        )
    pixels = torch.from_numpy(data.decoded(args.picture).copy())
    x0 = from_uint8(pixels.reshape(1, args.image_size, args.image_size, args.channels))  # [1,C,H,W]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(args.seed))
    t = torch.tensor(args.timesteps)
    rows = []
    for name in args.schedule:
        process = make_process(name, args.steps, betas=args.betas)
        x_t = process.q_sample(
            x0.expand(len(t), -1, -1, -1), t, noise.expand(len(t), -1, -1, -1)
        )  # [K,C,H,W]
        rows.append(to_uint8(x_t))  # [K,H,W,C]
    figure = torch.stack(rows)  # [S,K,H,W,C]
    if args.channels == 1:
        figure = figure.expand(-1, -1, -1, -1, 3)
    return labelled_grid(figure, [f"t = {number}" for number in args.timesteps], args.schedule)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(ForwardProcess, __doc__, argv)
    check_free(args.out, args.overwrite)
    save_png(args.out, forward_process(args), replace=args.overwrite)
    say(f"the forward process: {args.out}", result=True)


if __name__ == "__main__":
    run(main)
