"""Fields of a stranger's JSON table, checked one by one; what nobody asked for is refused.

Imports nothing heavy.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from glide.utils.errors import InputError
from glide.utils.json_files import kind_of
from glide.utils.numbers import Range, shown_number

LONGEST_TEXT = 4000  # characters of a caption; encoders read some hundred


class Fields:
    """A table of a request. All methods raise InputError, in one sentence, for a value of another kind.

    null counts as missing, as forms send it.
    """

    def __init__(self, values: object, where: str) -> None:
        if not isinstance(values, Mapping):
            raise InputError(f"got {kind_of(values)} as {where}, expected a table: send a JSON object")
        self.values: Mapping[str, Any] = values
        self.where = where
        self._read: set[str] = set()

    def has(self, name: str) -> bool:
        """True where there is a value of that name."""
        return self._get(name) is not None

    def text(self, name: str, default: str | None = None, longest: int = LONGEST_TEXT) -> str | None:
        """A text of at most `longest` characters that UTF-8 can write."""
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._wrong(name, value, "a text")
        if len(value) > longest:
            raise InputError(
                f"got {self.where} with {name} of {len(value)} characters, expected at most {longest}: shorten it"
            )
        return value.encode("utf-8", "replace").decode("utf-8")

    def whole(self, name: str, allowed: Range, default: Any = None) -> Any:
        """A whole number in a range, also as digits: a browser's numbers end at 2**53."""
        value = self._get(name)
        if value is None:
            return default
        return (allowed.read_whole if isinstance(value, str) else allowed.whole)(value, name)

    def real(self, name: str, allowed: Range, default: Any = None) -> Any:
        """A finite number in a range."""
        value = self._get(name)
        return default if value is None else allowed.real(value, name)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(name, value, "true or false")
        return value

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str | None:
        """One of some texts."""
        value = self.text(name, default, 100)
        if value is not None and value not in choices:
            raise InputError(
                f"got {self.where} with {name} {value!r}, expected {' or '.join(choices)}: choose one of these"
            )
        return value

    def list(self, name: str, most: int) -> list[Any] | None:
        """A list of at most so many entries, of any kind."""
        value = self._get(name)
        if value is not None and (not isinstance(value, list) or len(value) > most):
            raise self._wrong(name, value, f"a list of at most {most} entries")
        return value

    def texts(self, name: str, most: int = 16, longest: int = 100) -> tuple[str, ...] | None:
        """A list of texts."""
        value = self.list(name, most)
        if value is None:
            return None
        for one in value:
            if not isinstance(one, str) or len(one) > longest:
                raise self._wrong(name, one, f"texts of at most {longest} characters")
        return tuple(value)

    def wholes(self, name: str, count: int, allowed: Range) -> tuple[int, ...] | None:
        """A list of so many whole numbers."""
        value = self.list(name, count)
        if value is None:
            return None
        if len(value) != count:
            raise self._wrong(name, value, f"a list of {count} numbers")
        return tuple(allowed.whole(one, name) for one in value)

    def table(self, name: str) -> Fields:
        """A table in this one; an empty one where there is none."""
        value = self._get(name)
        return Fields({} if value is None else value, f"{self.where}'s {name}")

    def end(self) -> None:
        """InputError for a field that was not read."""
        for name in self.values:
            if name not in self._read:
                near = difflib.get_close_matches(str(name), self._read, 1, 0.6)
                expected = f"{near[0]}" if near else f"one of {', '.join(sorted(self._read))}"
                raise InputError(
                    f"got {self.where} with {shown_number(name)}, expected {expected}: leave it out, or correct it"
                )

    def _get(self, name: str) -> Any:
        self._read.add(name)
        return self.values.get(name)

    def _wrong(self, name: str, value: object, expected: str) -> InputError:
        got = kind_of(value) if isinstance(value, dict | list) else shown_number(value)
        return InputError(f"got {self.where} with {name} {got}, expected {expected}: correct it")
