"""Data sets that give batches. A batch is a pure function of (seed, step, size): resuming needs no saved state.

N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from glide.data.aspect_buckets import Buckets
from glide.data.conditions import ConditionArgument, Stored, check_arguments, of_scenes, pair
from glide.data.folder_index import index_folder
from glide.data.hub_dataset import HubPictures, is_hub
from glide.data.idx_files import IdxPictures, is_idx
from glide.data.shards.brace_expansion import is_shards
from glide.data.shards.dataset import Shards
from glide.data.skipped_files import MAX_BROKEN
from glide.data.stored_dataset import StoredData
from glide.networks.picture_conditions import PictureCondition, condition_named
from glide.shapes.dataset import Shapes
from glide.utils.channels import check_channels, in_channels
from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError, warn
from glide.utils.images import to_float
from glide.utils.memory import check_memory
from glide.utils.picture_size import Size

Batch = dict[str, Any]
Split = Literal["train", "held_out"]
GROUP = "glide.datasets"
"""Entry points of other packages: functions (argument, image_size, **options) -> `Dataset`, with the options of
`open_data`, for `--data NAME:ARGUMENT`. None can take the name "shapes", "idx" or "hf"."""


class Dataset(Protocol):
    """The interface of training data."""

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each label; empty for pictures with captions, or without annotations."""

    @property
    def broken(self) -> Mapping[str, str]:
        """Pictures that were skipped so far, by name, with the reason."""

    def check_batch(self, size: int) -> None:
        """InputError if there are fewer than `size` pictures."""

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        """{"image": uint8 [size, C, H, W]}, with "caption": list[str] or "y": int64 [size] if there are any.

        Conditions, uint8 [size, c, H, W], stand under their keys (`glide.networks.picture_conditions`).

        Of pictures that were encoded ahead, "latents": float16 [size, c, h, w] in place of the image.

        As bytes it is made, prefetched and moved to a GPU in a quarter of the time and memory; `on_device` converts it
        to floats. rows: make only these rows, equal to those of the whole batch
        (`glide.training.distributed.Processes.rows`).
        """

    def captions_for_tokenizer(self) -> list[str]:
        """Captions to train a tokenizer on; empty if there are none."""


def open_data(
    spec: str,
    image_size: int,
    *,
    seed: int = 0,
    crop: Literal["center", "random"] = "center",
    flip: bool = False,
    max_broken: float = MAX_BROKEN,
    held_out: float = 0.0,
    split: Split = "train",
    channels: int = 3,
    unconditional: bool = False,
    conditions: Sequence[str] = (),
    sizes: Sequence[Size] = (),
    least: int = 1,
) -> Dataset:
    """The data set of a `--data` argument, its pictures image_size pixels wide and high.

    spec: "shapes" or "shapes:..." (`Shapes.parse_spec`), "idx:FOLDER" (`glide.data.idx_files`), "hf:NAME"
    (`glide.data.hub_dataset`), "NAME:ARGUMENT" of another package (GROUP), or, local or any blobfile path, WebDataset
    shards ("shards/{0000..0999}.tar", `glide.data.shards.dataset`) or a folder, with captioned pictures (x.png beside
    x.txt, a captions.csv with file,caption, or Hugging Face's metadata.csv or metadata.jsonl with file_name,text) or
    with a folder for each class (labels follow the sorted names).
    crop: "center" the largest square, "random" one of 80% to 100% of its side anywhere.
    flip: mirror half of the pictures, at random; captions that say "left" are then wrong.
    max_broken: share of damaged pictures, and of those without a caption, that are skipped and counted.
    held_out: share of the pictures that "train" leaves out and "held_out" consists of, chosen by a hash of their names
    (shapes has its own held-out scenes).
    channels: 1 for grey pictures, 3 for RGB, 4 for RGBA. unconditional: take all pictures, without their annotations.
    conditions: pictures that each is learned with, as `glide.data.conditions.ConditionArgument` reads them.
    sizes: in place of image_size, one (H, W), or those of several aspect buckets of at least so many pictures.
    InputError if the spec is unusable, a folder or a shard is missing or empty, layouts are mixed, or too many
    pictures lack a caption.
    """
    _check_options(image_size, crop, split, max_broken, held_out, seed)
    sizes = _checked_sizes(spec, sizes, image_size)
    arguments = [ConditionArgument.parse(text) for text in conditions]
    built_in = is_generated(spec) or is_idx(spec) or is_hub(spec)
    if not built_in and (entry := plug_ins(GROUP).get(spec.partition(":")[0])) is not None:
        return _of_package(
            entry,
            spec.partition(":")[2],
            sizes[0][0],
            seed=seed,
            crop=crop,
            flip=flip,
            max_broken=max_broken,
            held_out=held_out,
            split=split,
            channels=channels,
            unconditional=unconditional,
            **({"conditions": conditions} if conditions else {}),
        )
    check_arguments(arguments, is_generated(spec))
    if is_generated(spec):
        shapes = Shapes.parse_spec(spec, seed=seed, image_size=sizes[0][0], split=split)
        return GeneratedData(shapes, channels, [condition_named(argument.spec) for argument in arguments])
    source, paired = pair(_open_split(spec, unconditional, split, held_out), arguments)
    size, buckets = _bucketed(source, sizes, least)
    return StoredData(source, size, seed, crop == "random", flip, max_broken, channels, paired, buckets)


def _check_options(
    image_size: int, crop: str, split: str, max_broken: float, held_out: float, seed: int
) -> None:
    """InputError for options of `open_data` out of their range."""
    if image_size < 1 or crop not in ("center", "random") or split not in ("train", "held_out"):
        raise InputError(
            f"image_size {image_size}, crop {crop!r}, split {split!r}: expected at least 1, center or random, "
            "train or held_out"
        )
    if not 0 <= max_broken <= 1 or not 0 <= held_out < 1:
        raise InputError(f"max_broken {max_broken}, held_out {held_out}: expected shares from 0 to 1")
    if seed < 0:
        raise InputError(f"seed {seed}: expected a number from 0")


def _open_split(spec: str, unconditional: bool, split: Split, held_out: float) -> Stored:
    source = open_source(spec, unconditional)
    warn_left_out(source, spec)
    return split_of(source, spec, split, held_out) if held_out or split == "held_out" else source


def _checked_sizes(spec: str, sizes: Sequence[Size], image_size: int) -> Sequence[Size]:
    """The sizes of pictures, at least one. InputError for other than one square of data that are drawn square."""
    sizes = sizes or ((image_size, image_size),)
    only_squares = is_generated(spec) or spec.partition(":")[0] in plug_ins(GROUP)
    if only_squares and (len(sizes) > 1 or sizes[0][0] != sizes[0][1]):
        raise InputError(
            f"got --size or --buckets for {spec}, whose pictures are square, expected a folder or shards: leave it out"
        )
    return sizes


def _bucketed(source: Stored, sizes: Sequence[Size], least: int) -> tuple[Size, Buckets | None]:
    """The one size of a source's pictures, or their buckets."""
    if len(sizes) == 1:
        return sizes[0], None
    buckets = Buckets.of_source(source, sizes, least)
    return buckets.sizes[0], buckets if len(buckets.sizes) > 1 else None


def warn_left_out(source: Stored, spec: str) -> None:
    """Say how many pictures of the data are not used, and why the first."""
    if source.left_out:
        name, reason = next(iter(source.left_out.items()))
        warn(f"left out of {spec}, {len(source.left_out)} in all: {name} {reason}", stacklevel=3)


def split_of(source: Stored, spec: str, split: Split, share: float) -> Stored:
    """The held-out `share` of a source's pictures, or the others. InputError if there are none."""
    part = source.only(lambda name: is_held_out(name, share) == (split == "held_out"))
    if not len(part):
        raise InputError(f"of {len(source)} pictures in {spec} none is {split}: change --held-out")
    return part


def _of_package(entry: EntryPoint, argument: str, image_size: int, **options: Any) -> Dataset:
    """A data set of another package. InputError where it cannot be imported, or is no `Dataset`."""
    make = load_plug_in(entry, "data set")
    try:
        inspect.signature(make).bind(argument, image_size, **options)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the data set {entry.name!r} of {entry.value} does not take (argument, image_size, **options) ({error}): "
            "correct it"
        ) from error
    data: Dataset = make(argument, image_size, **options)
    asked = ("class_names", "broken", "check_batch", "batch", "captions_for_tokenizer")
    if missing := [name for name in asked if not hasattr(data, name)]:
        raise InputError(
            f"the data set {entry.name!r} of {entry.value} has no {' or '.join(missing)}, expected a "
            "glide.data.datasets.Dataset: correct it"
        )
    return data


def on_device(batch: Batch, device: torch.device | str, rows: slice = slice(None)) -> Batch:
    """A batch, or a slice of its rows, as tasks take it: on the device, with "image" float32 in [-1, 1]."""
    part = {k: v[rows] for k, v in batch.items()}
    part = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in part.items()}
    return {**part, "image": to_float(part["image"])} if "image" in part else part


def examples_in(batch: Batch) -> int:
    """Number of examples of a batch, of pictures or of latents that were encoded ahead."""
    return len(batch["latents"] if "latents" in batch else batch["image"])


def is_generated(spec: str) -> bool:
    """True for a `--data` argument that names the built-in scenes, not files."""
    return spec == "shapes" or spec.startswith("shapes:")


def open_source(spec: str, unconditional: bool = False) -> Stored:
    """The pictures of a folder, of shards or of a table, in stored order. Arguments and InputError as `open_data`."""
    if is_idx(spec):
        return IdxPictures(spec, unconditional)
    if is_hub(spec):
        return HubPictures(spec, unconditional)
    return Shards(spec, unconditional=unconditional) if is_shards(spec) else index_folder(spec, unconditional)


def is_held_out(name: str, share: float) -> bool:
    """True for a picture of the held-out `share`, chosen by its name alone, whatever other files there are."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < share * 2**64


class GeneratedData:
    """Built-in scenes, drawn on demand in any number; none is broken."""

    class_names: Sequence[str] = ()

    def __init__(
        self, shapes: Shapes, channels: int = 3, conditions: Sequence[PictureCondition] = ()
    ) -> None:
        check_channels(channels, "the model")
        self.shapes, self.channels, self.conditions = shapes, channels, conditions
        self.broken: Mapping[str, str] = {}

    def check_batch(self, size: int) -> None:
        side = self.shapes.image_size
        check_memory(size * self.channels * side**2 * 5, f"a batch of {size} pictures", "lower --batch-size")

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        batch = self.shapes.batch(step, size, rows)
        if self.conditions:
            scenes = self.shapes.scenes(step, size)
            scenes = scenes if rows is None else [scenes[row] for row in rows]
            pixels = batch["image"].permute(0, 2, 3, 1).numpy()
            batch |= {c.key: torch.from_numpy(of_scenes(c, scenes, pixels)) for c in self.conditions}
        if self.channels != 3:
            pixels = in_channels(batch["image"].permute(0, 2, 3, 1).numpy(), self.channels)
            batch["image"] = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        return batch

    def captions_for_tokenizer(self) -> list[str]:
        return self.shapes.captions_for_tokenizer()
