"""Read a data set, print what is usable and what is broken, write a contact sheet and a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import numpy as np

from glide.data.aspect_buckets import bucket_sizes
from glide.data.audit import AuditReport, caption_or_class, inspect_all, report, summarise
from glide.data.datasets import GeneratedData, is_generated, open_data, open_source
from glide.data.shards.dataset import Shards
from glide.data.shards.index_cache import write_index_beside
from glide.data.stored_dataset import Source
from glide.utils.contact_sheet import contact_sheet, sheet_size
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free, write_beside
from glide.utils.image_files import check_output, decode_picture
from glide.utils.images import Pixels, on_white, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from glide.utils.resize import square_picture
from toolkit.commands.check_data_flags import CheckData
from toolkit.commands.report import write_json


def check_data(args: CheckData) -> AuditReport:
    """Read every picture, print what was found, write sheet and report.

    InputError for a data set that cannot be opened, settings that do not fit, and where more is broken than may be.
    """
    check_numbers(args)
    if args.sheet is not None:
        check_output(args.sheet, args.overwrite)
    if args.report is not None:
        check_free(args.report, args.overwrite)
        if args.report == args.sheet:
            raise InputError(f"got {args.report} for --sheet and --report, expected two names: give another")
    sizes = () if args.buckets is None else bucket_sizes(args.buckets, args.multiple)
    if is_generated(args.data):
        return _check_generated(args)
    source = open_source(args.data, args.unconditional)
    if args.sheet is not None and len(source):
        sheet_size(min(args.pictures, len(source)), args.size, args.size)
    if args.write_index:
        if not isinstance(source, Shards):
            raise InputError(f"--write-index: {args.data} is a folder, expected shards, which have an index")
        for path in source.paths:
            write_index_beside(path)
    seen = list(
        progress(inspect_all(source, args.workers), total=len(source), desc="reading", unit="picture")
    )
    found = summarise(source, seen, sizes)
    say(report(found, args.list), result=True)
    whole = [index for index, one in enumerate(seen) if not one.wrong]
    if args.sheet is not None and whole:
        _show(args, source, whole)
    if args.report is not None:
        write_json(args.report, asdict(found), args.overwrite)
    if found.share > args.max_broken or not whole:
        raise InputError(
            f"{len(found.broken)} of {found.total} pictures in {args.data} are broken, more than the "
            f"{args.max_broken:.2%} that may be: a training would stop, unless with a higher --max-broken"
        )
    return found


def _show(args: CheckData, source: Source, whole: Sequence[int]) -> None:
    """Write the contact sheet of some of the pictures that can be decoded."""
    order = np.random.default_rng(args.seed).permutation(len(whole))[: args.pictures]
    chosen = [whole[place] for place in sorted(order.tolist())]
    pictures, captions = [], []
    for index in chosen:
        picture = on_white(decode_picture(source.read(index), source.name(index))[0])
        pictures.append(np.array(square_picture(picture, args.size)))
        said = caption_or_class(source, index)
        captions.append(source.class_names[said] if isinstance(said, int) else said)
    _write_sheet(args, np.stack(pictures), captions)


def _write_sheet(args: CheckData, pictures: Pixels, captions: Sequence[str]) -> None:
    assert args.sheet is not None
    sheet = contact_sheet(pictures, captions)
    path = write_beside(args.sheet, partial(save_png, image=sheet, replace=args.overwrite))
    say(f"{len(captions)} pictures with their captions: {path}")


def _check_generated(args: CheckData) -> AuditReport:
    """The built-in scenes are drawn on demand: there is nothing that could be broken."""
    if args.write_index:
        raise InputError(
            f"--write-index: {args.data} is drawn on demand, expected shards, which have an index"
        )
    if args.sheet is not None:
        sheet_size(args.pictures, args.size, args.size)
    data = open_data(args.data, args.size, seed=args.seed)
    assert isinstance(data, GeneratedData)
    say(f"{args.data}: scenes drawn on demand, in any number; none can be broken")
    if args.sheet is not None:
        batch = data.batch(0, args.pictures)
        _write_sheet(args, batch["image"].permute(0, 2, 3, 1), batch["caption"])
    return AuditReport()
