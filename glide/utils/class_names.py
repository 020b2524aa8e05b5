"""Class names: convert a user's name or number of a class to the number that a network is conditioned on."""

import difflib
from collections.abc import Sequence
from typing import Protocol

from glide.utils.errors import InputError
from glide.utils.printable import few


class HasClasses(Protocol):
    """A configuration with classes: a diffusion model's, a classifier's."""

    @property
    def num_classes(self) -> int: ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """One for each class, or empty."""


def class_number(config: HasClasses, label: str | int) -> int:
    """The number, 0 to num_classes - 1, of a class given by number or by name (in any case).

    One of several names with commas between ("tench, Tinca tinca") is enough; of two classes the first has it.
    InputError if the model has no classes, no such number, or no such name, with the nearest names as suggestions.
    """
    if not config.num_classes:
        raise InputError(f"got the class {label!r} for a model without classes, expected none: leave it out")
    text = str(label).strip()
    names = {name.lower(): number for number, name in reversed(list(enumerate(config.class_names)))}
    if text.lower() not in names:
        names = _one_of_several(config.class_names)
    if text.lower() in names:
        return names[text.lower()]
    try:
        number = int(text)
    except ValueError:
        raise InputError(_unknown(config, text)) from None
    if not 0 <= number < config.num_classes:
        raise InputError(
            f"got the class {number}, expected 0 to {config.num_classes - 1}: choose one of these"
        )
    return number


def _one_of_several(class_names: Sequence[str]) -> dict[str, int]:
    """The numbers of classes by each of their names."""
    found: dict[str, int] = {}
    for number, names in enumerate(class_names):
        for name in names.lower().split(","):
            found.setdefault(name.strip(), number)
    return found


def _unknown(config: HasClasses, text: str) -> str:
    if not config.class_names:
        return (
            f"got the class {text!r}, but this model's classes have no names: give a number, "
            f"0 to {config.num_classes - 1}"
        )
    known = {name.lower(): name for name in config.class_names}
    near = difflib.get_close_matches(text.lower(), known, n=3, cutoff=0.5)
    # a word of a longer name ("retriever") is close too, though few letters match
    near += [name for name in known if text and text.lower() in name and name not in near][: 3 - len(near)]
    if near:
        offered = _either([known[name] for name in near])
        return f"got the class {text!r}, which this model does not have: did you mean {offered}?"
    return f"got the class {text!r}, expected one of {few(config.class_names)}: choose one"


def _either(names: list[str]) -> str:
    *others, last = map(repr, names)
    return f"{', '.join(others)} or {last}" if others else last
