"""The plan of `train auto`: what is chosen for which data, speed and hours."""

from dataclasses import replace
from pathlib import Path

import pytest

from glide.utils.errors import InputError
from toolkit.commands.train_auto_curve import choose
from toolkit.commands.train_auto_plan import (
    CURVE_SHARE,
    LEAST_STEPS,
    REPORT_SHARE,
    Asked,
    DataFacts,
    Plan,
    Speed,
    Stage,
    in_words,
    make_plan,
    steps_for,
)
from toolkit.commands.train_auto_stages import FRACTIONS, next_round
from toolkit.commands.train_auto_state import AutoState, Round, check_same, read_state

FACTS = DataFacts(
    pictures=300, broken=0, described="captions", different=300, large=300, side=512, fingerprint="a"
)
LAPTOP, GPU = Speed({64: 20.0, 32: 70.0}), Speed({64: 2500.0, 32: 6000.0}, gpu=True)


def plan(hours: float = 1.0, facts: DataFacts = FACTS, speed: Speed = LAPTOP, **asked: object) -> Plan:
    return make_plan(facts, speed, Asked(hours, **asked))  # type: ignore[arg-type]


def test_three_hundred_pictures_and_an_hour() -> None:
    found = plan()
    (base,) = found.stages
    assert (base.name, base.size, base.init, base.preset, base.batch_size) == ("base", 64, "emoji", None, 16)
    assert found.held_out == 0.1
    # all of the time is given away: stages and report
    assert base.seconds + found.report_seconds == pytest.approx(3600)
    assert base.steps == int(3600 * (1 - REPORT_SHARE) * (1 - CURVE_SHARE) * 20 / 16)
    said = "\n".join(in_words(found, FACTS))
    assert "each is seen about 245 times" in said and "worth its time from about 2.2 hours" in said
    assert "begins with the embedded model emoji" in said and "by heart" in said


def test_little_time_gives_smaller_pictures() -> None:
    found = plan(0.2)
    assert found.stages[0].size == 32
    assert any("at 64 each would be seen about 49 times" in reason for reason in found.reasons)
    assert plan(0.2, size=64).stages[0].size == 64
    large = replace(FACTS, pictures=60_000, different=60_000, large=60_000)
    assert plan(0.2, large).stages[0].size == 32
    assert plan(40.0, large, LAPTOP).stages[0].size == 64  # two million pictures seen are enough for any data


def test_an_upsampler_needs_hours_and_large_pictures() -> None:
    both = plan(3.0)
    assert [stage.name for stage in both.stages] == ["base", "upsampler"]
    assert both.stages[1].size == 256 and both.stages[1].init == "emoji"
    assert sum(stage.seconds for stage in both.stages) + both.report_seconds == pytest.approx(3 * 3600)
    assert len(plan(3.0, replace(FACTS, large=100)).stages) == 1
    assert len(plan(3.0, upsampler=False).stages) == 1
    assert len(plan(1.0, upsampler=True).stages) == 2
    assert len(plan(3.0, size=32).stages) == 1


def test_much_data_on_a_gpu_begins_from_scratch() -> None:
    large = replace(FACTS, pictures=10_000, different=9_000, large=10_000)
    found = plan(1.0, large, GPU)
    assert (found.stages[0].init, found.stages[0].preset) == (None, "emoji-64")
    assert found.stages[0].batch_size == 128
    assert found.held_out == 0.1 and plan(1.0, replace(large, pictures=50_000), GPU).held_out == 0.02
    assert plan(1.0, large, GPU, init="shapes").stages[0].init == "shapes"
    assert plan(1.0, FACTS, GPU).stages[0].init == "emoji"
    assert plan(1.0, init="none", size=32).stages[0].preset == "shapes-32"


def test_few_pictures_are_all_learned() -> None:
    few = replace(FACTS, pictures=30, different=30, large=30)
    found = plan(1.0, few)
    assert found.held_out == 0.0 and "Nothing is held out" in found.reasons[0]
    assert plan(1.0, replace(few, pictures=10)).stages[0].batch_size == 4
    middle = replace(FACTS, pictures=200)
    assert plan(1.0, middle).held_out == 0.15  # 30 pictures, of which 5% is more than one


def test_too_little_time_is_refused_with_the_least_that_does() -> None:
    with pytest.raises(
        InputError, match=rf"expected {LEAST_STEPS} or more: give --hours (\S+) at least"
    ) as said:
        plan(0.001)
    hours = float(str(said.value).split("--hours ")[-1].split()[0])
    assert plan(hours).stages[0].steps >= LEAST_STEPS


def test_more_time_never_gives_less(hours: tuple[float, ...] = (0.05, 0.2, 1.0, 3.0, 12.0)) -> None:
    for facts in (FACTS, replace(FACTS, pictures=3000), replace(FACTS, pictures=20)):
        for speed in (LAPTOP, GPU):
            plans = [plan(one, facts, speed) for one in hours]
            assert [p.stages[0].size for p in plans] == sorted(p.stages[0].size for p in plans)
            assert [len(p.stages) for p in plans] == sorted(len(p.stages) for p in plans)


def test_steps_are_counted_again_by_the_real_speed() -> None:
    assert steps_for(1000.0, 0, 2.0) == 500 and steps_for(10.0, 90, 2.0) == 91
    stage = Stage("base", 64, "emoji", None, 16, seconds=3000.0, steps=3000, measured=8)
    rounds = [next_round(stage, [], 0)]
    assert rounds[0].steps == 300 and rounds[0].cooldown == 0.0
    rounds[0].seconds_per_step = 2.0  # half as fast as was measured
    rounds.append(next_round(stage, rounds, 1))
    assert rounds[1].steps == 750
    rounds[1].seconds_per_step = 1.5
    last = next_round(stage, rounds, len(FRACTIONS) - 1)
    assert last.steps == 2000 and last.cooldown == pytest.approx((2000 - 750) / 2000)
    assert last.every == 312 and last.every % last.save_every == 0 and last.save_every <= 120 / 1.5
    # the time of the first rounds is spent: a machine that stops being fast still ends
    rounds[1].seconds_per_step = 100.0
    assert next_round(stage, rounds, 2).steps == 751


def test_the_state_comes_back(tmp_path: Path) -> None:
    asked = {"data": "photos", "hours": 1.0, "init": None}
    state = AutoState(
        asked, FACTS, plan(3.0), {"base": [Round(5, seconds_per_step=1.0), Round(9, 0.5, 3, 2)]}
    )
    assert read_state(tmp_path) is None
    state.write(tmp_path)
    assert read_state(tmp_path) == state
    check_same(state, asked, FACTS, tmp_path)
    with pytest.raises(InputError, match=r"got --hours 2\.0 for .* planned with 1\.0, expected the same"):
        check_same(state, {**asked, "hours": 2.0}, FACTS, tmp_path)
    with pytest.raises(InputError, match="got other pictures or captions in photos"):
        check_same(state, asked, replace(FACTS, fingerprint="b"), tmp_path)
    (tmp_path / "auto.json").write_text("{")
    with pytest.raises(InputError, match=r"auto\.json"):
        read_state(tmp_path)


def line(step: int, distance: float, right: float = 0.5, memorised: float = 0.1) -> dict[str, float]:
    return {
        "step": step,
        "held_out_distance": distance,
        "held_out_distance_low": distance - 0.05,
        "held_out_distance_high": distance + 0.05,
        "captions_right": right,
        "memorised": memorised,
    }


def test_the_last_model_is_taken_unless_an_earlier_one_is_nearer_by_more_than_chance() -> None:
    curve = [line(10, 0.5), line(20, 0.3), line(30, 0.32, 0.6)]
    found = choose(curve, [10, 20, 30])
    assert found.step == 30 and "within its interval" in found.reasons[0]
    assert choose([line(10, 0.5), line(20, 0.2), line(30, 0.4)], [10, 20, 30]).step == 20
    assert choose([line(10, 0.5), line(20, 0.2), line(30, 0.4)], [10, 30]).step == 30  # 20 was not kept
    assert choose([], [7]).step == 7


def test_the_curve_says_what_more_training_would_bring() -> None:
    better = choose([line(10, 0.5), line(20, 0.4), line(30, 0.3)], [10, 20, 30])
    assert "more hours would help" in better.reasons[-1]
    worse = choose([line(10, 0.5), line(20, 0.3), line(30, 0.3, 0.5, 0.4)], [10, 20, 30])
    assert "rose by 30.0%" in worse.reasons[-1] and "by heart" in worse.reasons[-1]
    few = choose([line(10, 0.5), line(20, 0.4), line(30, 0.3)], [10, 20, 30], 8)
    assert "its points are of 8 pictures" in few.reasons[-1]
    copies = choose([line(10, 0.5), line(20, 0.3), line(30, 0.3, 0.7, 0.4)], [10, 20, 30])
    assert "draws these pictures better, and nothing new" in copies.reasons[-1]
