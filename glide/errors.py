"""The one exception that means "the input was wrong", as opposed to "the program is wrong"."""


class InputError(ValueError):
    """A user's mistake. The message is one sentence: what came, what was expected, what to do."""
