"""Captions as training takes them, from whatever a file holds: one line of text that any file can hold again."""

from __future__ import annotations

from glide.utils.errors import InputError

LARGEST_CAPTION = 2**20
"""Characters of a caption at most, and bytes of a member of a shard that holds one; networks see some hundred words."""
LARGEST_FILE = 2**26  # bytes of a caption's file that are read: more is no caption by far


class BrokenCaptionError(InputError):
    """A caption that was read but is no text, is empty, or is larger than any caption."""


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
    """BrokenCaptionError for what is no text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenCaptionError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error


def encodable(text: str) -> str:
    r"""Text that UTF-8 can hold: halves of a surrogate pair are joined, and one that is alone becomes U+FFFD.

    JSON may hold such halves, as \ud83d, where a program cut a text in the middle of an emoji.
    """
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def shown_name(name: str) -> str:
    r"""The name of a file or folder as text that UTF-8 can hold; bytes that are none are written as \udcff.

    Two names stay two. The file itself is opened by the name as it is.
    """
    return name.encode("utf-8", "backslashreplace").decode()
