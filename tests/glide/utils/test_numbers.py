"""The one check of numbers: every type that means a number is taken, and nothing else."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from glide.utils.errors import InputError
from glide.utils.numbers import read_whole, real, shown_number, whole
from glide.utils.ranges import STEPS

WHOLE: list[Any] = [
    3,
    3.0,
    np.int64(3),
    np.uint8(3),
    np.float32(3),
    np.array(3),
    torch.tensor(3),
    torch.tensor([3.0]),
]
WHOLE += [Fraction(6, 2), Decimal("3.0")]
NO_NUMBER: list[Any] = [True, np.bool_(True), torch.tensor(True), "3", None, [3], {}, 1j, np.array([1, 2])]
NOT_FINITE: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    np.float32("nan"),
    Decimal("nan"),
    Decimal("sNaN"),
    1e999,
]


@pytest.mark.parametrize("value", WHOLE, ids=repr)
def test_whole_numbers_of_every_type(value: Any) -> None:
    found = whole(value, "it")
    assert found == 3 and type(found) is int
    assert real(value, "it") == 3.0 and type(real(value, "it")) is float


@pytest.mark.parametrize("value", NO_NUMBER + NOT_FINITE, ids=repr)
def test_other_values_than_numbers(value: Any) -> None:
    for check in (whole, real):
        with pytest.raises(
            InputError, match=r"^got the seed .*, expected a (whole|finite) number: give such"
        ):
            check(value, "the seed")


def test_ranges() -> None:
    assert whole(2**63 - 1, "it", 0, 2**63 - 1) == 2**63 - 1
    for value in (-1, 2**63, 10**30, 10**400, 5.5, 1e300):
        with pytest.raises(InputError, match="expected a whole number from 0 to 9223372036854775807: "):
            whole(value, "it", 0, 2**63 - 1)
    with pytest.raises(InputError, match="got --steps 0, expected a whole number of at least 1: try 27"):
        whole(0, "--steps", 1, do="try 27")
    assert real(0, "it", 0, 1) == 0.0
    with pytest.raises(InputError, match="expected a finite number above 0 and at most 1: "):
        real(0, "it", 0, 1, above=True)
    with pytest.raises(InputError, match="expected a finite number from 0 and below 1: "):
        real(1, "it", 0, 1, below=True)
    with pytest.raises(InputError, match="got it a number of about 401 digits, expected a finite number: "):
        real(10**400, "it")


def test_whole_numbers_in_text() -> None:
    assert [read_whole(text, "it") for text in ("7", " 007 ", "-5", "-0", "0", "000")] == [7, 7, -5, 0, 0, 0]
    for text in ("", "-", "x", "1.0", "\uff11", "²", "1_000", "+1", "0x10", "1" * 5000, "--1"):
        with pytest.raises(InputError, match=r"^got it '.*, expected a whole number from 0 to 9: ") as error:
            read_whole(text, "it", 0, 9)
        assert len(str(error.value)) < 200


def test_bound_of_a_count() -> None:
    """A message names it only where it is why a value is refused."""
    for value in (10**9, 1e9, torch.tensor(10**9), "1000000000", "100000001"):
        with pytest.raises(InputError, match="expected a whole number from 1 to 100000000: "):
            STEPS.read_whole(value, "--steps") if isinstance(value, str) else STEPS.whole(value, "--steps")
    for value in (0, -5):
        with pytest.raises(InputError, match="expected a whole number of at least 1: "):
            STEPS.whole(value, "--steps")
    assert STEPS.read_whole("100000000", "--steps") == STEPS.whole(1e8, "--steps") == 10**8


def test_shown_short() -> None:
    assert shown_number(5) == "5" and shown_number("a") == "'a'"
    for value in (10**5000, [10**5000], "x" * 10**6):
        assert len(shown_number(value)) <= 60
