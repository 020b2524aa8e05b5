"""The one exception that means "the input was wrong", as opposed to "the program is wrong", and warnings."""

import warnings

from glide.utils.printable import printable


class InputError(ValueError):
    """A user's mistake. The message is one printable sentence: what came, what was expected, what to do."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(said: object) -> str:
    """The text of an error or a warning in one printable line, shortened to a sane length."""
    return printable(" ".join(str(said).split()))


def reason_of(error: BaseException) -> str:
    """The reason that an error gives, in one line: the operating system's words, else its first line or its class."""
    said = getattr(error, "strerror", None) or str(error).strip().split("\n")[0][:300]
    return said or type(error).__name__


def warn(message: object, stacklevel: int = 2) -> None:
    """Warn of `message` in one printable line. stacklevel: as that of `warnings.warn`, counted from the caller."""
    warnings.warn(one_line(message), stacklevel=stacklevel + 1)


class CannotWrite(InputError):
    """An output could not be written, and what bore its name before is as it was: a full disk, a folder of others."""


class NameTaken(CannotWrite):
    """An output's name is that of a file that is there, and that is not to be replaced."""
