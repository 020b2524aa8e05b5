"""Shared by tests: deep_png."""

import struct
import zlib

import numpy as np

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


GREY = np.repeat(RAMP[..., None], 3, axis=2)


def deep_png() -> bytes:
    """A PNG of 16 bits a colour, which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in GREY.reshape(16, 48))
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body
