"""The plan of a comparison: every pair once, either model as often on the left, opaque ids, a key that is read back."""

import copy
import json
from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from glide.utils.errors import InputError
from support.comparison import small_plan
from toolkit.evaluation.human_comparison import (
    CATCH,
    DAMAGED,
    FITS,
    PAIR,
    REAL,
    WRONG_CAPTION,
    plan,
    read_key,
)

MODELS = ("a", "b", "c")


def key() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(small_plan().key()))
    return value


def test_every_pair_of_models_is_compared_on_every_caption_once() -> None:
    pairs = Counter(
        (frozenset(trial.models), trial.name) for trial in small_plan().trials if trial.kind == PAIR
    )
    assert set(pairs.values()) == {1} and len(pairs) == 3 * 10
    assert {pair for pair, _ in pairs} == {frozenset(two) for two in combinations(MODELS, 2)}


@pytest.mark.parametrize("captions", [2, 9, 10, 31])
def test_either_model_is_as_often_on_the_left(captions: int) -> None:
    trials = [trial for trial in small_plan(captions=captions).trials if trial.kind == PAIR]
    for first, second in combinations(MODELS, 2):
        left = sum(trial.models == (first, second) for trial in trials)
        right = sum(trial.models == (second, first) for trial in trials)
        assert left + right == captions and abs(left - right) <= captions % 2


def test_catch_trials_are_of_both_kinds_and_the_right_answer_on_both_sides() -> None:
    catch = [trial for trial in small_plan(captions=30, catch=12).trials if trial.kind in CATCH]
    assert Counter(trial.kind for trial in catch) == {DAMAGED: 6, WRONG_CAPTION: 6}
    assert sum(trial.expected == trial.left.id for trial in catch) == 6
    for trial in catch:
        right, wrong = trial.left, trial.right
        if trial.expected == wrong.id:
            right, wrong = wrong, right
        assert right.name == trial.name and not right.damaged
        if trial.kind == DAMAGED:
            assert (wrong.name, wrong.model, wrong.damaged) == (right.name, right.model, True)
        else:
            assert wrong.name != right.name and not wrong.damaged


def test_a_wrong_caption_shares_as_few_words_as_can_be() -> None:
    words = {"0": "a red star", "1": "a red ring", "2": "two blue hearts"}
    found = plan(MODELS, list(words), words, 0, 8)
    for trial in found.trials:
        if trial.kind == WRONG_CAPTION and trial.name in "01":
            assert {trial.left.name, trial.right.name} == {trial.name, "2"}


def test_the_order_is_random_and_follows_from_the_seed() -> None:
    first, again = small_plan(), small_plan()
    other = plan(MODELS, ["00000", "00001"], {}, 6, 0)
    assert first == again
    assert first.id != other.id and other.questions == (REAL,) and first.questions == (REAL, FITS)
    names = [trial.name for trial in first.trials if trial.kind == PAIR]
    assert names != sorted(names)
    catch = [i for i, trial in enumerate(first.trials) if trial.kind in CATCH]
    assert catch != list(range(30, 36))


def test_the_order_of_ids_tells_no_model() -> None:
    """Over 400 seeds the smaller of two ids is model a's 170 to 230 times (three deviations of a fair coin)."""
    smaller = 0
    for seed in range(400):
        (trial,) = plan(("a", "b"), ["x"], {}, seed, 0).trials
        smaller += min(trial.left, trial.right, key=lambda one: one.id).model == "a"
    assert 170 <= smaller <= 230


def test_other_pictures_are_another_comparison() -> None:
    one, other = (plan(MODELS, ["x"], {}, 1, 0, digest) for digest in ("aa", "bb"))
    assert one.id != other.id


def test_few_captions_give_as_many_catch_trials_as_they_can() -> None:
    one = plan(("a", "b"), ["x"], {"x": "a dog"}, 0, 6)
    assert [trial.kind for trial in one.trials if trial.kind in CATCH] == [DAMAGED] * 2
    assert len({trial.id for trial in one.trials}) == 3


def test_the_key_is_read_back() -> None:
    assert read_key(key(), "page.key.json") == small_plan()


def damage(change: str) -> Any:
    value = copy.deepcopy(key())
    trial = value["trials"][0]
    if change == "list":
        return []
    if change == "format":
        value["format"] = {"another": "file"}
    elif change in ("trials", "models", "seed"):
        del value[change]
    elif change == "twice":
        value["trials"].append(trial)
    elif change == "model":
        trial["left"]["model"] = "another"
    elif change == "kind":
        trial["kind"] = "other"
    elif change == "expected":
        trial["kind"], trial["expected"] = DAMAGED, "0" * 16
    elif change == "number":
        trial["caption"] = 7
    elif change == "same":
        trial["kind"], trial["expected"] = PAIR, ""
        trial["right"]["model"] = trial["left"]["model"]
    elif change == "side":
        trial["right"] = trial["left"]
    else:
        value["questions"] = ["prettier"]
    return value


DAMAGES = (
    "list",
    "format",
    "trials",
    "models",
    "seed",
    "twice",
    "model",
    "kind",
    "expected",
    "number",
    "side",
)


@pytest.mark.parametrize("change", [*DAMAGES, "questions"])
def test_a_damaged_key_is_refused(change: str) -> None:
    with pytest.raises(InputError, match=r"page\.key\.json.*expected") as said:
        read_key(damage(change), "page.key.json")
    assert "\n" not in str(said.value)
