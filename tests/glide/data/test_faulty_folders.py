"""A faulty folder of pictures is one sentence with the file at fault."""

import os

import pytest

from glide.data.datasets import open_data
from glide.utils.errors import InputError
from support.data_files import captioned, picture


def write(path, content: str | bytes = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def table(name: str, content: str | bytes):
    """A spoiler that writes a table beside a.png, which loses its text file."""

    def spoil(folder) -> None:
        (folder / "000.txt").unlink()
        write(folder / name, content)

    return spoil


def only_classes(*spoilers):
    """A spoiler that empties the folder and then applies others."""

    def spoil(folder) -> None:
        (folder / "000.png").unlink()
        (folder / "000.txt").unlink()
        for other in spoilers:
            other(folder)

    return spoil


BAD_FOLDERS = {
    "no caption": (
        lambda f: picture(f / "x.png"),
        r"1 of 2 pictures .* x\.png has no caption: write x\.txt",
    ),
    "empty caption": (lambda f: write(f / "000.txt", " \n"), r"caption in .*000\.txt is empty"),
    "caption not UTF-8": (lambda f: write(f / "000.txt", b"\xe9t\xe9"), r"000\.txt is not UTF-8"),
    "no caption at all": (
        lambda f: (f / "000.txt").unlink(),
        r"000\.png in .* has no caption: give pictures with",
    ),
    "captions and classes": (
        lambda f: picture(f / "dog" / "x.png"),
        r"dog/x\.png has no caption: write dog/x\.txt",
    ),
    "pictures beside class folders": (
        lambda f: [(f / "000.txt").unlink(), picture(f / "dog" / "x.png")],
        r"000\.png in .* has no caption while dog/x\.png lies in a class folder",
    ),
    "class folders too deep": (
        only_classes(lambda f: picture(f / "pets" / "dog" / "x.png")),
        r"pets/dog/x\.png .* two folders deep",
    ),
    "empty class folder": (
        only_classes(lambda f: picture(f / "dog" / "x.png"), lambda f: (f / "cat").mkdir()),
        "class folder cat .* holds no pictures",
    ),
    "class folder without pictures": (
        only_classes(lambda f: picture(f / "dog" / "x.png"), lambda f: write(f / "cat" / "notes.doc")),
        "class folder cat .* holds no pictures",
    ),
    "a caption for two": (lambda f: picture(f / "000.bmp"), r"000\.bmp and 000\.png share one caption"),
    "captions twice": (
        lambda f: write(f / "captions.csv", "file,caption\n"),
        r"twice, by captions\.csv and 000\.txt",
    ),
    "two tables": (
        lambda f: [table("captions.csv", "file,caption\n")(f), write(f / "metadata.jsonl")],
        r"twice, by captions\.csv and metadata\.jsonl",
    ),
    "csv without a header": (
        table("captions.csv", "000.png,grey\n"),
        r"expected file,caption: add that first line",
    ),
    "csv empty": (table("captions.csv", ""), "expected file,caption"),
    "csv without rows": (table("captions.csv", "file,caption\n"), r"captions\.csv has no rows"),
    "csv short row": (
        table("captions.csv", "file,caption\n000.png\n"),
        r"captions\.csv line 2 lacks file or caption",
    ),
    "csv with a comma too many": (
        table("captions.csv", "file,caption\n000.png,a ring, red\n"),
        r"captions\.csv line 2 has 3 values, expected 2: put a caption with a separator .* quotation marks",
    ),
    "metadata.csv without captions": (
        table("metadata.csv", "file_name,label\n000.png,3\n"),
        r"has the columns file_name, label, expected file_name,text",
    ),
    "parts without train": (
        only_classes(lambda f: picture(f / "test" / "dog" / "x.png")),
        r"holds the parts test, expected train among them",
    ),
    "a caption of 2 MB": (
        lambda f: write(f / "000.txt", "x" * 2_000_000),
        r"has 2,000,000 characters, expected at most",
    ),
    "a pipe for a caption": (
        lambda f: [(f / "000.txt").unlink(), os.mkfifo(f / "000.txt")],
        r"000\.png in .* has no caption",
    ),
    "a pipe behind a link": (
        lambda f: [os.mkfifo(f / ".pipe"), (f / "000.txt").unlink(), (f / "000.txt").symlink_to(".pipe")],
        r"000\.txt is not a regular file",
    ),
    "deep JSON": (
        table("metadata.jsonl", '{"file_name": "000.png", "text": "a", "e": ' + "[" * 100_000),
        r"metadata\.jsonl line 1 is not JSON",
    ),
    "csv empty caption": (
        table("captions.csv", "file,caption\n000.png,\n"),
        r"000\.png has no caption: that in .*captions\.csv line 2 is empty",
    ),
    "csv of a missing file": (
        table("captions.csv", "file,caption\n../up.png,grey\n000.png,grey\n"),
        r"\.\./up\.png is not there, though .*captions\.csv line 2 names it",
    ),
    "csv not text": (table("captions.csv", b"file,caption\n\xff,x\n"), r"captions\.csv is not UTF-8"),
    "jsonl broken": (
        table("metadata.jsonl", '{"file_name": "000.png"'),
        r"metadata\.jsonl line 1 is not JSON",
    ),
    "jsonl incomplete": (
        table("metadata.jsonl", '\n{"file_name": "000.png", "text": 3}'),
        r"metadata\.jsonl line 2 lacks file_name or text",
    ),
    "jsonl of a list": (table("metadata.jsonl", "[1]"), r"metadata\.jsonl line 1 lacks file_name or text"),
    "no pictures": (lambda f: (f / "000.png").unlink(), "holds no pictures"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_a_faulty_folder_is_one_sentence_with_the_file(tmp_path, name):
    spoil, message = BAD_FOLDERS[name]
    spoil(captioned(tmp_path, 1))
    with pytest.raises(InputError, match=message) as caught:
        open_data(str(tmp_path), 4).batch(0, 1)
    assert "\n" not in str(caught.value)
