"""Clean captions from files: one line of text that can be encoded again."""

from __future__ import annotations

from glide.utils.errors import InputError

LARGEST_CAPTION = 2**20
"""Limit on a caption's characters, and on the bytes of its file in a shard; networks read some hundred words."""
LARGEST_FILE = 2**26  # limit on the bytes of a caption's file


class BrokenCaptionError(InputError):
    """A caption that was read but is not text, is empty, or is too large."""


def clean_caption(text: str, where: str) -> str:
    """The caption on one line, encodable. BrokenCaptionError if it is empty or has over LARGEST_CAPTION characters."""
    if len(text) > LARGEST_CAPTION:
        raise BrokenCaptionError(
            f"the caption in {where} has {len(text):,} characters, expected at most {LARGEST_CAPTION:,}: shorten it"
        )
    caption = encodable(" ".join(text.split()))
    if not caption:
        raise BrokenCaptionError(f"the caption in {where} is empty: write one or remove the picture")
    return caption


def decode_text(data: bytes, path: str) -> str:
    """Decode UTF-8. BrokenCaptionError for anything else."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenCaptionError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def encodable(text: str) -> str:
    r"""Make a text encodable as UTF-8: halves of a surrogate pair are joined, and a lone one becomes U+FFFD.

    JSON may hold such halves, as \ud83d, if a program truncated a text in the middle of an emoji.
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def shown_name(name: str) -> str:
    r"""The name of a file or folder as text encodable in UTF-8; other bytes are written as \udcff.

    Different names stay different. The file itself is opened by its original name.
    """
    return name.encode("utf-8", "backslashreplace").decode()
