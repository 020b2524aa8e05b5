"""The page of a comparison: it reveals no model, fetches nothing, and its JavaScript does what it says.

The JavaScript runs in Node, where it is installed, and the whole page in Chromium, where that and the package
playwright are; those tests are skipped elsewhere.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from support.comparison import HOSTILE, small_plan, write
from toolkit.evaluation import rater_page
from toolkit.evaluation.human_comparison import CATCH, PAIR, Comparison, plan
from toolkit.evaluation.rater_answers import read_answers
from toolkit.evaluation.rater_page import page

SCRIPT = Path(rater_page.__file__).with_suffix(".js")
DOT = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJg"
    "gg=="
)


def hostile() -> Comparison:
    names = [f"picture-{i}" for i in range(len(HOSTILE))]
    return plan(("secret-one", "secret-two"), names, dict(zip(names, HOSTILE, strict=True)), 987654321, 4)


def html(comparison: Comparison) -> str:
    return page(comparison, {one.id: DOT for one in comparison.pictures})


class Elements(HTMLParser):
    """All start tags of a page with their attributes, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] == "script" and data.strip():
            self.scripts.append(data)


def data_of(text: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Elements(text).scripts[0])
    return value


def test_the_page_names_no_model_no_file_and_no_catch_trial() -> None:
    comparison = hostile()
    text = html(comparison)
    for word in ("secret-one", "secret-two", "picture-0", str(comparison.seed)):
        assert word in json.dumps(comparison.key()) and word not in text, word
    data = data_of(text)
    for word in (*CATCH, "expected"):
        assert word not in json.dumps(data), word
    assert set(data) == {"comparison", "questions", "trials", "pictures"}
    assert {frozenset(trial) for trial in data["trials"]} == {frozenset({"id", "left", "right", "caption"})}
    assert list(data["pictures"]) == sorted(data["pictures"])
    for trial in data["trials"]:
        assert all(re.fullmatch(r"[0-9a-f]{16}", trial[one]) for one in ("id", "left", "right"))


def test_captions_of_any_text_are_harmless_and_whole() -> None:
    comparison = hostile()
    text = html(comparison)
    found = Elements(text)
    assert [tag for tag, _ in found.tags].count("script") == 2 and len(found.scripts) == 2
    assert not any(name.startswith("on") for _, attributes in found.tags for name in attributes)
    shown = {trial["caption"] for trial in data_of(text)["trials"]}
    assert shown == {trial.caption for trial in comparison.trials} and shown <= set(HOSTILE)


def test_nothing_is_fetched() -> None:
    text = html(hostile())
    assert not re.search(r"https?:|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", text)
    for tag, attributes in Elements(text).tags:
        for name in ("src", "href", "action", "srcset"):
            assert attributes.get(name, "data:,") == "data:,", tag
    assert "default-src 'none'" in text


def test_without_captions_one_question_is_asked() -> None:
    comparison = plan(("a", "b"), ["x", "y"], {}, 0, 2)
    data = data_of(html(comparison))
    assert [one["id"] for one in data["questions"]] == ["real"]
    assert "fits it better" not in html(comparison) and "fits it better" in html(hostile())


def node(code: str, **values: Any) -> Any:
    """The value of a JavaScript expression, in which `page` has the functions of the page."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node is not installed")
    setup = f"const page = require({json.dumps(str(SCRIPT))}); const given = {json.dumps(values)};"
    done = subprocess.run(
        [program, "-e", f"{setup} console.log(JSON.stringify({code}))"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def trials() -> list[dict[str, str]]:
    return data_of(html(small_plan()))["trials"]  # type: ignore[no-any-return]


def test_the_hash_is_fnv() -> None:
    assert node('["", "a", "foobar"].map(page.hash)') == [0x811C9DC5, 0xE40C292C, 0xBF9CF968]


@pytest.mark.slow
def test_every_rater_sees_all_trials_in_an_order_of_their_own() -> None:
    names = [f"rater {i}" for i in range(200)]
    given = trials()
    found = node("given.names.map((n) => page.arranged(given.trials, 'id', n))", trials=given, names=names)
    sides = {one["id"]: (one["left"], one["right"]) for one in given}
    swapped = 0
    for order in found:
        assert sorted(one["id"] for one in order) == sorted(sides)
        flips = {(one["left"], one["right"]) != sides[one["id"]] for one in order}
        assert len(flips) == 1  # all or none, so that the balance of the plan stays
        assert all({one["left"], one["right"]} == set(sides[one["id"]]) for one in order)
        swapped += flips.pop()
    assert 79 <= swapped <= 121  # three deviations of 200 fair coins
    assert len({tuple(one["id"] for one in order) for order in found}) == 200
    first = [order[0]["id"] for order in found]
    assert max(first.count(one) for one in sides) <= 17  # 5.6 expected of 36 trials, and five deviations
    again = node("page.arranged(given.trials, 'id', 'RATER 0')", trials=given)
    assert again == found[0]


def test_answers_go_through_all_trials_and_questions() -> None:
    found = node("[0, 1, 2, 5, 6].map((n) => page.at(['x', 'y', 'z'], ['p', 'q'], n))")
    assert [one and (one["trial"], one["question"]) for one in found] == [
        ("x", "p"),
        ("x", "q"),
        ("y", "p"),
        ("z", "q"),
        None,
    ]


def test_saved_answers_are_taken_as_far_as_they_fit() -> None:
    given = trials()[:3]
    good = [
        {
            "trial": one["id"],
            "question": question,
            "choice": "tie",
            "left": one["left"],
            "right": one["right"],
        }
        for one in given
        for question in ("real", "fits")
    ]
    code = "given.saves.map((s) => page.usable(s, given.trials, [{id: 'real'}, {id: 'fits'}]).length)"
    other_side = [*good[:4], good[4] | {"left": good[4]["right"]}]
    saves: list[Any] = [good, good[:3], [*good, good[0]], [*good[:2], good[3]], other_side]
    saves += [[good[0] | {"choice": "both"}], None, {"a": 1}, [None], "text"]
    assert node(code, saves=saves, trials=given) == [6, 3, 6, 2, 4, 0, 0, 0, 0, 0]


def test_a_name_is_one_clean_line() -> None:
    assert node("[' Anna \\n B. ', '\\t', 'x'.repeat(99)].map(page.cleanName)") == ["Anna B.", "", "x" * 80]


@pytest.fixture(scope="module")
def browser() -> Any:
    api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("Chromium is not installed")
    with api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.mark.slow
def test_a_rater_answers_by_keys_goes_on_later_and_downloads(browser: Any, tmp_path: Path) -> None:
    comparison = hostile()
    (tmp_path / "page.html").write_text(html(comparison), "utf-8")
    context = browser.new_context(accept_downloads=True)
    tab, wrong, asked = context.new_page(), list[str](), list[str]()
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text))
    tab.on("request", lambda request: asked.append(request.url[:5]))
    tab.goto((tmp_path / "page.html").as_uri())
    tab.keyboard.type("Anna")
    tab.keyboard.press("Enter")
    count = 2 * len(comparison.trials)

    def answer(key: str) -> None:
        before = int(tab.evaluate("document.getElementById('bar').value"))
        tab.wait_for_timeout(50)
        tab.keyboard.press(key)
        tab.wait_for_function(f"document.getElementById('bar').value === {before + 1}")

    tab.wait_for_selector("#trial:not([hidden])")
    seen = set()
    for key in ("a", "ArrowRight", "t"):
        answer(key)
        seen.add(tab.text_content("#caption"))
    tab.keyboard.press("u")
    assert tab.evaluate("document.getElementById('bar').value") == 2
    tab.reload()
    assert tab.input_value("#name") == "Anna"
    tab.keyboard.press("Enter")
    tab.wait_for_selector("#trial:not([hidden])")
    assert tab.evaluate("document.getElementById('bar').value") == 2
    for i in range(2, count):
        answer(("ArrowLeft", "b", "ArrowDown")[i % 3])
        seen.add(tab.text_content("#caption"))
    tab.wait_for_selector("#end:not([hidden])")
    with tab.expect_download() as started:
        tab.keyboard.press("Enter")
    started.value.save_as(tmp_path / "answers.json")
    assert started.value.suggested_filename == "answers-Anna.json"
    assert not wrong and set(asked) <= {"file:", "data:", "blob:"}
    assert tab.evaluate("window.hit") is None and seen <= set(HOSTILE) and len(seen) > 1
    (rater,) = read_answers([tmp_path / "answers.json"], comparison)
    assert rater.name == "Anna" and len(rater.answers) == count
    written = json.loads((tmp_path / "answers.json").read_text("utf-8"))["answers"]
    keys = ["left", "right", *(("left", "right", "tie")[i % 3] for i in range(2, count))]
    assert [one["choice"] for one in written] == keys
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(390, 844), (844, 390), (320, 568)])
def test_on_a_phone_all_is_reached_by_touch(browser: Any, tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "page.html").write_text(html(small_plan()), "utf-8")
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, has_touch=True, is_mobile=True
    )
    tab = context.new_page()
    tab.goto((tmp_path / "page.html").as_uri())
    tab.fill("#name", "Ben")
    tab.tap("#form button")
    for count, element in enumerate(("#pick-left", "#choose-tie", "#choose-right", "#pick-right"), 1):
        tab.wait_for_timeout(60)
        tab.tap(element)
        tab.wait_for_function(f"document.getElementById('bar').value === {count}")
    width, height = tab.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert width <= size[0] and height <= size[1] * 1.15
    boxes = [tab.locator(one).bounding_box() for one in ("#pick-left", "#pick-right", "#choose-tie", "#undo")]
    for one in boxes:
        assert min(one["width"], one["height"]) >= 44
    for above, below in pairwise(boxes[1:]):
        assert above["y"] + above["height"] <= below["y"]
    tab.tap("#undo")
    tab.wait_for_function("document.getElementById('bar').value === 3")
    context.close()


def test_a_kept_file_of_the_page_is_one_that_is_read(tmp_path: Path) -> None:
    comparison = small_plan()
    (trial,) = [one for one in trials() if one["id"] == comparison.trials[0].id]
    answer = {"trial": trial["id"], "question": "real", "choice": "left", "seconds": 2}
    answer |= {"left": trial["left"], "right": trial["right"]}
    value = node("page.answersFile(given.id, 'Anna', [given.answer])", id=comparison.id, answer=answer)
    (rater,) = read_answers([write(tmp_path / "a.json", value)], comparison)
    assert rater.answers[0].chosen == trial["left"]
    assert comparison.trials[0].kind in (PAIR, *CATCH)
