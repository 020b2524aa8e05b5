"""InputError, the exception for invalid input as opposed to defects of the program, and warnings."""

import warnings

from glide.utils.printable import printable


class InputError(ValueError):
    """Invalid input. The message is one printable sentence: the value, what was expected, what to do."""

    def __str__(self) -> str:
        return one_line(super().__str__())


def one_line(text: object) -> str:
    """The text of an error or a warning in one printable line of limited length."""
    return printable(" ".join(str(text).split()))


def reason_of(error: BaseException) -> str:
    """The reason of an error in one line: the operating system's message, else its first line or its class."""
    reason = getattr(error, "strerror", None) or str(error).strip().split("\n")[0][:300]
    return reason or type(error).__name__


def warn(message: object, stacklevel: int = 2) -> None:
    """Warn of `message` in one printable line. stacklevel: as that of `warnings.warn`, counted from the caller."""
    warnings.warn(one_line(message), stacklevel=stacklevel + 1)


class CannotWrite(InputError):
    """An output could not be written, and an earlier file of its name is unchanged: a full disk, no permission."""


class NameTaken(CannotWrite):
    """An output's name is taken by a file that is not to be replaced."""
