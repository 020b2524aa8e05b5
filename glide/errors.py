"""The one exception that means "the input was wrong", as opposed to "the program is wrong"."""


class InputError(ValueError):
    """A user's mistake. The message is one sentence: what came, what was expected, what to do."""


def one_line(said: object) -> str:
    """What an error or a warning says, for a place in such a sentence."""
    return " ".join(str(said).split())


class CannotWrite(InputError):
    """An output could not be written, and what was there before is as it was: a full disk, a folder of others."""
