"""Fidelity to maps: true pictures are right, changed ones wrong in what was changed; the command."""

from dataclasses import replace
from pathlib import Path

import pytest

from glide.checkpoints.load import save_model
from glide.shapes.oracle import Oracle
from glide.shapes.render import render
from glide.shapes.scene import Scene, parse_caption
from glide.utils.errors import InputError
from support.conditions import conditioned_model
from support.models import tiny_unet
from toolkit.commands.evaluate_conditions import evaluate_conditions
from toolkit.commands.evaluate_conditions_flags import EvaluateConditions
from toolkit.evaluation.conditions import QUESTIONS, cases, judge

RIGHT = dict.fromkeys(QUESTIONS, True)


def judged(case, scene: Scene) -> dict[str, bool]:
    return judge(case, Oracle().read(render([scene], 64)[0]))


def test_true_pictures_are_right() -> None:
    found = cases(150)
    assert [judged(case, case.scene) for case in found] == [RIGHT] * 150
    kinds = {case.scene.kind for case in found}
    assert kinds == {"one", "count", "pair"} and all(parse_caption(case.caption) for case in found)


def test_pictures_in_the_changed_colours_are_right_and_others_wrong_in_colour() -> None:
    found = cases(60, change_colors=True)
    for case in found:
        things = tuple(replace(t, color=c) for t, c in zip(case.scene.things, case.colors, strict=True))
        assert not set(case.colors) & {t.color for t in case.scene.things}
        assert judged(case, replace(case.scene, things=things)) == RIGHT, case.caption
        assert judged(case, case.scene) == {**RIGHT, "colors": False, "all": False}
        assert all(color in case.caption for color in case.colors)


def test_a_thing_elsewhere_of_another_size_or_missing_is_seen() -> None:
    for case in cases(60):
        if case.scene.kind != "one":
            continue
        (thing,) = case.scene.things
        moved = replace(thing, x=thing.x + (0.07 if thing.x < 0.5 else -0.07))
        wrong = {**RIGHT, "places": False, "map": False, "all": False}
        assert judged(case, replace(case.scene, things=(moved,))) == wrong
        if thing.radius < 0.15:
            larger = replace(thing, radius=1.3 * thing.radius)
            assert judged(case, replace(case.scene, things=(larger,)))["places"] is False
        assert judged(case, replace(case.scene, things=())) == dict.fromkeys(RIGHT, False)
        other = replace(thing, shape="cross" if thing.shape != "cross" else "circle")
        assert judged(case, replace(case.scene, things=(other,)))["kinds"] is False


@pytest.mark.filterwarnings("ignore:the caption is longer")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(tmp_path / "model"), tmp_path / "out"
    record, large = {"data": "shapes"}, replace(tiny_unet(6), image_size=16)
    save_model(tmp_path / "model", conditioned_model(("map:9",), unet=large), record)
    args = EvaluateConditions(
        folder, scenes=3, steps=1, word_scales=(1.0, 2.0), picture_scales=(0.0, 1.0, 1.5), out=out
    )
    assert len(evaluate_conditions(args)) == 6
    assert capsys.readouterr().out == (out / "conditions.md").read_text()
    assert (out / "wrong.png").exists() and len((out / "wrong.txt").read_text().splitlines()) == 3
    save_model(tmp_path / "other", conditioned_model(), record)
    with pytest.raises(InputError, match="is conditioned on map:3, expected map:9"):
        evaluate_conditions(EvaluateConditions(str(tmp_path / "other"), out=tmp_path / "no"))
    with pytest.raises(InputError, match="--word-scales -1"):
        evaluate_conditions(replace(args, word_scales=(-1.0,), out=tmp_path / "no"))
