"""Compare the pictures of several models by people: make a page that shows pairs blind, and analyse the answers.

examples:
    python scripts/compare.py outputs/a outputs/b --out page.html
    python scripts/compare.py outputs/a outputs/b outputs/c --captions captions.txt --pictures 100 --out page.html
    python scripts/compare.py --answers anna.json ben.json --key page.key.json
    python scripts/compare.py --answers anna.json ben.json --key page.key.json --out report.json

The page is one file that needs no server: send it to raters, and keep its key. Pictures of one name belong together.
The answers give win rates, Bradley-Terry scores in Elo points, the raters' agreement and the order effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from glide.utils.errors import InputError
from glide.utils.numbers import Range
from glide.utils.ranges import MAX_SEED, check_numbers

PAGE = Path("outputs/compare.html")
OF_PAGE = ("captions", "pictures", "catch_trials", "quality")
OF_ANSWERS = ("key", "keep_failed")


@dataclass(frozen=True)
class Compare:
    """The flags. With folders it makes the page, with --answers it analyses them."""

    folders: Annotated[Positional[tuple[str, ...]], arg(metavar="FOLDER")] = ()
    """Two or more folders with pictures of the same names, one for each model, such as those of sample.py."""
    captions: Annotated[str | None, arg(metavar="FILE")] = None
    """(page) Captions from a text file, one a line, from JSON lines or Parquet, in the order of the pictures' names. By
    default those in the pictures' recipes; without any, only the question about realism is asked."""
    pictures: int | None = None
    """(page) Compare at most so many pictures of each folder, chosen by --seed. By default all."""
    catch_trials: Annotated[int | None, Range(0, 1000)] = None
    """(page) Trials whose answer is known, which find out careless raters. By default one for ten pairs, at least 6."""
    quality: Annotated[int | None, Range(1, 100, do="90 is usual")] = None
    """(page) Store pictures as WebP of this quality, 1 to 100, for a smaller page. By default as exact PNG."""
    answers: Annotated[tuple[str, ...], arg(metavar="FILE")] = ()
    """Files of answers that raters downloaded from the page, one of each rater."""
    key: Annotated[str | None, arg(metavar="FILE")] = None
    """(answers) The key that was written beside the page, PAGE.key.json."""
    catch_pass: Annotated[float, Range(0.0, 1.0)] = 0.8
    """(answers) Share of the catch trials that a rater must have answered right."""
    keep_failed: bool = False
    """(answers) Also count raters who failed the catch trials."""
    bootstrap: Annotated[int, Range(100, 100_000)] = 2000
    """(answers) Resamples for the intervals."""
    seed: Annotated[int | None, Range(0, MAX_SEED)] = None
    """Of the page's order, sides and ids: by default random, since who knows it could compute the ids. Of the
    resamples: by default 0."""
    out: Path | None = None
    """The page, outputs/compare.html by default; with --answers a report as JSON, by default none."""
    overwrite: bool = False
    """Replace files of these names."""

    def check(self) -> None:
        """InputError for flags out of their range, or that exclude each other."""
        check_numbers(self)
        if bool(self.folders) == bool(self.answers):
            got = "both folders and --answers" if self.folders else "neither folders nor --answers"
            raise InputError(
                f"got {got}, expected one of them: give folders to make a page, --answers to analyse it"
            )
        useless = OF_PAGE if self.answers else OF_ANSWERS
        for name in useless:
            if getattr(self, name) not in (None, False):
                kind = "--answers" if self.answers else "folders"
                raise InputError(
                    f"got --{name.replace('_', '-')} with {kind}, expected it without: leave it out"
                )
        if self.answers and self.key is None:
            raise InputError("got --answers without --key, expected both: add --key PAGE.key.json")
        if self.out is not None and self.out.suffix.lower() != (
            suffix := ".json" if self.answers else ".html"
        ):
            raise InputError(
                f"got --out {self.out}, expected a name that ends in {suffix}: change the ending"
            )
