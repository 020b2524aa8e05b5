"""Answers of strangers: what the page cannot have written is refused in one sentence."""

from pathlib import Path
from typing import Any

import pytest

from glide.utils.errors import InputError
from support.comparison import answers, by_strength, small_plan, write
from toolkit.evaluation.rater_answers import read_answers

COMPARISON = small_plan()
TRUE = {"a": 0.8, "b": 0.0, "c": -0.8}


def of(rater: str = "anna") -> dict[str, Any]:
    return answers(COMPARISON, rater, by_strength(TRUE, 0))


def test_answers_are_read_with_either_side_on_the_left(tmp_path: Path) -> None:
    value = of("  Anna\n B. ")
    (rater,) = read_answers([write(tmp_path / "a.json", value)], COMPARISON)
    assert rater.name == "Anna B." and len(rater.answers) == len(value["answers"])
    for one, written in zip(rater.answers, value["answers"], strict=True):
        assert one.left == written["left"] and one.chosen == written.get(written["choice"], "")
    assert all(rater.catch_answers) and len(rater.catch_answers) == 6


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "another comparison": (
        {"comparison": "0" * 16},
        {},
        "answers the comparison '0000000000000000', expected",
    ),
    "no comparison": ({"comparison": None}, {}, "answers the comparison None"),
    "another format": ({"format": "key"}, {}, "holds no answers to a comparison"),
    "a later version": ({"version": 2}, {}, "holds no answers to a comparison"),
    "no rater": ({"rater": " "}, {}, "names no rater"),
    "a number as rater": ({"rater": 7}, {}, "names no rater"),
    "no answers": ({"answers": []}, {}, "holds no answers of 'anna'"),
    "a table of answers": ({"answers": {}}, {}, "holds no answers of 'anna'"),
    "an unknown trial": ({}, {"trial": "f" * 16}, "has the trial 'ffffffffffffffff'"),
    "a trial that is a list": ({}, {"trial": []}, "has the trial a list"),
    "an unknown question": (
        {},
        {"question": "prettier"},
        "has the question 'prettier', expected real or fits",
    ),
    "a question that is a list": ({}, {"question": []}, "has the question a list"),
    "an unknown choice": ({}, {"choice": "both"}, "has the choice 'both', expected left, right or tie"),
    "an unknown picture": ({}, {"left": "0" * 16}, "has the left picture '0000000000000000'"),
    "no picture": ({}, {"right": None}, "has the right picture None"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_page_did_not_write_is_refused(change: str, tmp_path: Path) -> None:
    whole, first, said = CHANGES[change]
    value = of() | whole
    if first:
        value["answers"][0] |= first
    with pytest.raises(InputError) as error:
        read_answers([write(tmp_path / "a.json", value)], COMPARISON)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_one_picture_on_both_sides_is_refused(tmp_path: Path) -> None:
    value = of()
    value["answers"][0]["right"] = value["answers"][0]["left"]
    with pytest.raises(InputError, match="expected another one than the left"):
        read_answers([write(tmp_path / "a.json", value)], COMPARISON)


def test_a_question_answered_twice_is_refused(tmp_path: Path) -> None:
    value = of()
    value["answers"].append(value["answers"][0])
    with pytest.raises(InputError, match=r"answer 73 in .* is the second one to its question"):
        read_answers([write(tmp_path / "a.json", value)], COMPARISON)


def test_the_same_rater_twice_is_refused(tmp_path: Path) -> None:
    files = [write(tmp_path / "a.json", of("anna")), write(tmp_path / "b.json", of("ANNA "))]
    with pytest.raises(InputError, match=r"b\.json and .*a\.json are both of the rater"):
        read_answers(files, COMPARISON)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"format": NaN}', "\xff\xfe"])
def test_damaged_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.json") as error:
        read_answers([tmp_path / "a.json"], COMPARISON)
    assert "\n" not in str(error.value)


def test_an_answer_that_is_no_table_is_refused(tmp_path: Path) -> None:
    value = of()
    value["answers"][3] = "left"
    with pytest.raises(InputError, match=r"answer 4 in .* is a text, expected an object"):
        read_answers([write(tmp_path / "a.json", value)], COMPARISON)


def test_a_name_with_control_characters_cannot_reach_the_terminal(tmp_path: Path) -> None:
    (rater,) = read_answers([write(tmp_path / "a.json", of("an\x1b[2Jna"))], COMPARISON)
    assert "\x1b" not in rater.name
