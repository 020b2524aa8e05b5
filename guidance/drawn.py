"""What the model to steer draws for the captions of a data set: wrong pictures, from which a CLIP learns where it errs.

Shape letters: N pictures, K batches, H W pixels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from glide.atomic import atomic_path
from glide.data import Batch, Dataset
from glide.draws import mixed
from glide.errors import InputError
from glide.images import from_uint8, to_uint8
from glide.recipe import fingerprint
from glide.wrapped import Wrapped
from guidance.conditions import Picture
from guidance.pipeline import Pipeline
from guidance.settings import Settings

DRAWN = 0xD4A3  # sets these seeds apart from all others of the same (seed, step)
CALL = 32
UNGUIDED = Settings(sampler="ddim", respacing="20", guidance=("none",))


class WithDrawn(Wrapped[Dataset]):
    """The first K batches of a data set, over and over, with what a model drew for their captions: "drawn" [N,3,H,W].

    A batch is a pure function of (seed, step), and of the model.
    """

    def __init__(self, data: Dataset, drawn: Tensor, size: int, rows: range) -> None:
        """drawn: uint8 [K,N,H,W,3], of these rows of the first K batches of so many pictures."""
        super().__init__(data)
        self.drawn, self.size, self.rows = drawn, size, rows

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        wanted = range(size) if rows is None else rows
        if size != self.size or wanted != self.rows:
            raise ValueError(
                f"drawn for rows {self.rows} of {self.size} pictures, not for {wanted} of {size}"
            )
        again = step % len(self.drawn)
        return {**self.data.batch(again, size, rows), "drawn": from_uint8(self.drawn[again])}


def with_drawn(
    data: Dataset, pipe: Pipeline, pictures: int, size: int, rows: range, seed: int, out: Path | None
) -> WithDrawn:
    """Let the model draw, without guidance, a picture for each caption of the first batches of a data set.

    pictures: at least so many are drawn, by all processes together: whole batches of `size`, of which these rows are
    this process's. out: folder of the run, where what was drawn is kept, so that a run that goes on need not draw it
    again. InputError for a model that draws nothing from captions.
    """
    if pipe.model.config.text is None or pipe.model.config.low_res:
        raise InputError(
            f"got {pipe.name} to draw wrong pictures, which draws nothing from captions alone, expected the text model "
            "that is to be steered: give its name, or leave --drawn out"
        )
    batches = -(-pictures // size)
    told = f"{batches} x {size} by {fingerprint(pipe.model)}, seed {seed}"
    kept = None if out is None else out / "drawn" / f"{rows.start}-{rows.stop}.safetensors"
    drawn = None if kept is None else _read(kept, told)
    if drawn is None:
        drawn = _draw(data, pipe, batches, size, rows, seed)
        if kept is not None:
            with atomic_path(kept) as temporary:
                save_file({"drawn": drawn}, temporary, metadata={"of": told})
    return WithDrawn(data, drawn, size, rows)


def _read(path: Path, told: str) -> Tensor | None:
    """What was drawn of this; None where it is not there, damaged, or of something else."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("drawn") if (file.metadata() or {}).get("of") == told else None
    except (OSError, SafetensorError):
        return None


def _draw(data: Dataset, pipe: Pipeline, batches: int, size: int, rows: range, seed: int) -> Tensor:
    """uint8 [K,N,H,W,3]."""
    part = rows if len(rows) < size else None
    asked = [
        Picture(mixed(seed, DRAWN, step, row), caption)
        for step in range(batches)
        for row, caption in zip(rows, data.batch(step, size, part)["caption"], strict=True)
    ]
    drawn = []
    for start in tqdm(range(0, len(asked), CALL), desc=f"drawing by {pipe.name}", unit="call"):
        for step in pipe.draw(asked[start : start + CALL], UNGUIDED):
            x = step.x
        drawn.append(to_uint8(x.cpu()))
    found = torch.cat(drawn)
    return found.unflatten(0, (batches, len(rows)))
