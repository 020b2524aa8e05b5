"""Shared by tests: captioned, picture, same, values, FakeBlobs."""

import os

import torch
from PIL import Image


def picture(path, value: int = 0, size: tuple[int, int] = (4, 4)) -> None:
    """A PNG of one grey value; makes the folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


def captioned(folder, count: int):
    """`count` grey pictures: number i has the value i and the caption "grey i"."""
    for i in range(count):
        picture(folder / f"{i:03}.png", i)
        (folder / f"{i:03}.txt").write_text(f" grey\n{i} \n")
    return folder


def values(batch) -> list[int]:
    """The grey value of each picture."""
    pixels = batch["image"].flatten(1)
    assert torch.equal(pixels.amin(1), pixels.amax(1))
    return pixels[:, 0].tolist()


def same(a, b) -> bool:
    """Whether two batches are equal."""
    return a.keys() == b.keys() and all(
        torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a
    )


class FakeBlobs:
    """blobfile for a bucket that is a local folder."""

    def __init__(self, root) -> None:
        self.root = root

    def walk(self, top):
        start = top.replace("gs://bucket", str(self.root)).rstrip("/")
        for folder, folders, files in os.walk(start):
            yield folder.replace(str(self.root), "gs://bucket"), folders, files

    def BlobFile(self, path, mode):
        return open(path.replace("gs://bucket", str(self.root)), mode)
