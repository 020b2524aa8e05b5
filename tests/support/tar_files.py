"""Shared by tests: png, tar."""

import io
import tarfile

from PIL import Image


def png(value: int = 0, size: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value,) * 3).save(file, "PNG")
    return file.getvalue()


def tar(path, members: dict[str, bytes]) -> None:
    """A tar as another program may write it, in any order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
