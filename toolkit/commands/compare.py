"""Compare pictures of several models by people: write the page and its key, or analyse the answers."""

from __future__ import annotations

import json
import secrets
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from glide.utils.atomic_write import write_text
from glide.utils.errors import warn
from glide.utils.file_locks import check_free
from glide.utils.json_files import read_json
from glide.utils.printable import say
from glide.utils.progress import progress
from toolkit.commands.compare_flags import PAGE, Compare
from toolkit.commands.prompt_files import read_rows
from toolkit.commands.report import write_json
from toolkit.evaluation.human_comparison import Picture, plan, read_key
from toolkit.evaluation.matched_folders import Folders, data_uri, digest, match
from toolkit.evaluation.rater_answers import read_answers
from toolkit.evaluation.rater_page import page
from toolkit.evaluation.rater_report import analyse, table

LEAST_CATCH_TRIALS, PAIRS_PER_CATCH_TRIAL = 6, 10
LARGE_PAGE = 100_000_000  # bytes, above which browsers of phones are in trouble


def compare(args: Compare) -> Path | dict[str, Any]:
    """Make a page, and return its path; or analyse answers, and return the report. InputError for what does not fit."""
    args.check()
    return _analyse(args) if args.answers else _make_page(args)


def _make_page(args: Compare) -> Path:
    out = args.out or PAGE
    key = key_of(out)
    for path in (out, key):
        check_free(path, args.overwrite)
    captions = None if args.captions is None else [row.caption for row in read_rows(args.captions)]
    folders = match(args.folders, captions)
    seed = secrets.randbits(53) if args.seed is None else args.seed
    folders = _chosen(folders, args.pictures, seed)
    models, names = folders.models, folders.names
    pairs = len(names) * len(models) * (len(models) - 1) // 2
    count = args.catch_trials
    if count is None:
        count = max(LEAST_CATCH_TRIALS, ceil(pairs / PAIRS_PER_CATCH_TRIAL))
    comparison = plan(models, names, folders.captions, seed, count, digest(folders))
    shown = comparison.pictures
    read = partial(_picture, folders, args.quality, seed)
    pictures = {
        one.id: read(one) for one in progress(shown, total=len(shown), desc="pictures", unit="picture")
    }
    html = page(comparison, pictures)
    write_text(key, json.dumps(comparison.key(), indent=1, ensure_ascii=False) + "\n", args.overwrite)
    write_text(out, html, args.overwrite)
    caught = len(comparison.trials) - pairs
    say(f"{out}: {pairs} pairs and {caught} catch trials, {len(html):,} bytes: send it to the raters")
    say(f"{key}: tells which model drew which picture: keep it to yourself, and read the answers with it")
    if not folders.captions:
        say("no captions were found: the page asks only which picture looks more real")
    if len(html) > LARGE_PAGE:
        warn(
            f"the page has {len(html):,} bytes, too many for some phones: give --quality 90 or fewer --pictures"
        )
    return out


def key_of(page: Path) -> Path:
    """The path of a page's key: page.key.json of page.html."""
    return page.with_name(f"{page.stem}.key.json")


def _chosen(folders: Folders, most: int | None, seed: int) -> Folders:
    """At most so many names of the folders, at random, in their order."""
    names = folders.names
    if most is None or most >= len(names):
        return folders
    kept = np.random.default_rng((seed, 0xC4005E)).choice(len(names), most, replace=False)
    return folders.only([names[i] for i in sorted(kept.tolist())])


def _picture(folders: Folders, quality: int | None, seed: int, picture: Picture) -> str:
    path = folders.files[folders.models.index(picture.model)][picture.name]
    return data_uri(path, quality, seed if picture.damaged else None)


def _analyse(args: Compare) -> dict[str, Any]:
    if args.out is not None:
        check_free(args.out, args.overwrite)
    assert args.key is not None
    comparison = read_key(read_json(args.key, "the key of a comparison"), args.key)
    raters = read_answers(args.answers, comparison)
    report = analyse(
        comparison,
        raters,
        catch_pass=args.catch_pass,
        keep_failed=args.keep_failed,
        resamples=args.bootstrap,
        seed=args.seed or 0,
    )
    say(table(report), result=True)
    if args.out is not None:
        say(f"written: {write_json(args.out, report, args.overwrite)}")
    return report
