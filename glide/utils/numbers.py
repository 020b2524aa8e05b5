"""Validate numbers from flags, files and Python calls.

A number may be of any type of Python, numpy or torch: `np.int64(3)`, `2.0` and `torch.tensor(3)` are whole numbers. A
bool and a text are not.
"""

from __future__ import annotations

import decimal
import math
import numbers
from dataclasses import dataclass
from typing import Any

from glide.utils.errors import InputError
from glide.utils.printable import beginning

MOST = 2**31 - 1  # limit on a count without a smaller bound
MANY = 10**8  # messages leave out larger bounds
MAX_DIGITS = 20  # of a whole number as text, as many as 2**64 has
_SHOWN = 60  # characters of a wrong value in a message


@dataclass(frozen=True)
class Range:
    """The valid numbers, from `low` to `high`, of a flag, a setting or a field of a configuration.

    above, below: `low` or `high` itself is excluded. infinite: `inf` is allowed. do: advice for messages.
    """

    low: float
    high: float
    above: bool = False
    below: bool = False
    infinite: bool = False
    do: str = ""

    def whole(self, value: object, name: str, do: str = "") -> int:
        """The value as a whole number. InputError for another value, or one out of range."""
        return whole(value, name, int(self.low), self._high(value), self.do or do)

    def real(self, value: object, name: str, do: str = "") -> float:
        """The value as a finite number. InputError for another value, or one out of range."""
        if self.infinite and value == math.inf:
            return math.inf
        do = self.do or do
        return real(value, name, self.low, self.high, above=self.above, below=self.below, do=do)

    def read_whole(self, text: str, name: str) -> int:
        """Read a whole number in digits; checked as `whole` does."""
        return read_whole(text, name, int(self.low), self._high(text), self.do)

    def _high(self, value: object) -> int | None:
        """The upper bound for the message; None for a very large one that is not the reason of the error."""
        number = _plain(value)
        large = (
            len(value) > 8 if isinstance(value, str) else _is_number(number) and _float(number) > self.high
        )
        return None if self.high >= MANY and not large else int(self.high)

    def read_real(self, text: str, name: str) -> float:
        """Read a number with a point, an exponent or neither; checked as `real` does."""
        try:
            if not text.isascii() or "_" in text:
                raise ValueError
            value = float(text)
            if math.isinf(value) and "inf" not in text.lower():  # too many digits, or too large an exponent
                raise ValueError
        except ValueError:
            raise InputError(
                f"got {name} {shown_number(text)}, expected a number: write for example {self._example:g}"
            ) from None
        return self.real(value, name)

    @property
    def _example(self) -> float:
        return self.low if not self.above else min(1.0, (self.low + self.high) / 2)


ANY = Range(-MOST, MOST)  # of an unknown number, such as another package's


def whole(value: object, name: str, low: int | None = None, high: int | None = None, do: str = "") -> int:
    """Check a whole number from `low` to `high`, both included (None: no bound), and return it as an int.

    name: its name in the message, as in "the seed" or "--steps". do: the advice.
    InputError, in one sentence, for another type, a fraction, nan, inf, and a number out of range.
    """
    found = _plain(value)
    finite = _is_number(found) and (isinstance(found, int) or math.isfinite(_float(found)))
    result = int(found) if finite else 0
    too_small, too_large = low is not None and result < low, high is not None and result > high
    if not finite or result != found or too_small or too_large:
        raise _wrong(value, name, "a whole number" + _range(low, high), do)
    return result


def real(
    value: object,
    name: str,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    do: str = "",
) -> float:
    """Check a finite number from `low` to `high` and return it as a float.

    above: `low` itself is not allowed. below: `high` itself is not allowed. name, do: as for `whole`.
    InputError, in one sentence, for another type, nan, inf, and a number out of range.
    """
    found = _plain(value)
    result = _float(found) if _is_number(found) else math.nan
    fits = low <= result <= high and not (above and result == low) and not (below and result == high)
    if not math.isfinite(result) or not fits:
        raise _wrong(value, name, "a finite number" + _range(low, high, above, below), do)
    return result


def read_whole(text: str, name: str, low: int | None = None, high: int | None = None, do: str = "") -> int:
    """A whole number from decimal digits, checked as by `whole`. A text of any length is safe."""
    digits = text.strip()
    sign, digits = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
    if not (digits.isascii() and digits.isdigit()) or len(digits.lstrip("0")) > MAX_DIGITS:
        raise _wrong(text, name, "a whole number" + _range(low, high), do)
    return whole(int(f"{sign}{digits.lstrip('0') or 0}"), name, low, high, do)


def shown_number(value: object) -> str:
    """A value for a message: at most 60 characters, with any number of digits."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"a number of about {int(value.bit_length() * math.log10(2)) + 1} digits"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # of a huge whole number inside another value
        text = type(value).__name__
    return beginning(text, _SHOWN)


def _plain(value: Any) -> Any:
    """A number of numpy or torch as Python's own; anything else unchanged."""
    item = getattr(value, "item", None)
    if item is None or not callable(item):
        return value
    try:
        return item()
    except (TypeError, ValueError, RuntimeError):  # an array of several numbers
        return value


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real | decimal.Decimal) and not isinstance(value, bool)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:  # a signalling nan of decimal
        return math.nan


def _range(low: float | None, high: float | None, above: bool = False, below: bool = False) -> str:
    has_low = low is not None and low != -math.inf
    has_high = high is not None and high != math.inf
    start = f" {'above' if above else 'from'} {_bound(low)}" if has_low else ""
    end = f" {'below' if below else 'to' if has_low else 'up to'} {_bound(high)}" if has_high else ""
    if has_low and has_high and (above or below):
        end = f" and {'below' if below else 'at most'} {_bound(high)}"
    if has_low and not has_high and not above:
        start = f" of at least {_bound(low)}"
    return start + end


def _bound(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _wrong(value: object, name: str, expected: str, do: str) -> InputError:
    return InputError(f"got {name} {shown_number(value)}, expected {expected}: {do or 'give such a number'}")
