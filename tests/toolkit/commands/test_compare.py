"""scripts/compare.py: from folders to a page and its key, from answers to a report; wrong input in one sentence."""

import json
import re
from pathlib import Path
from typing import Any

import compare
import pytest

from glide.utils.json_files import read_json
from support.comparison import answers, by_strength, folders, write
from support.sample_script import refused
from support.scripts import call
from toolkit.evaluation.human_comparison import CATCH, PAIR, Comparison, read_key

Capture = pytest.CaptureFixture[str]
CAPTIONS = [f"a thing number {i}" for i in range(12)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folders(tmp_path, ["first-model", "second-model", "third-model"], CAPTIONS)
    return tmp_path


def key(path: str = "page.key.json") -> Comparison:
    return read_key(read_json(path), path)


def test_a_page_and_its_key_are_written_and_answers_read(place: Path, capsys: Capture) -> None:
    assert (
        call(compare, "first-model", "--out", "page.html", "second-model", "--seed", "1", "third-model") == 0
    )
    out = capsys.readouterr().out
    assert "page.html: 36 pairs and 6 catch trials" in out and "page.key.json" in out
    comparison, text = key(), (place / "page.html").read_text("utf-8")
    assert comparison.models == ("first-model", "second-model", "third-model")
    assert not re.search(r"(first|second|third)-model|0000\d\.png", text)
    files = []
    for seed, name in enumerate(("anna", "ben", "careless")):
        strengths = {"first-model": 2.0, "second-model": 0.0, "third-model": -2.0}
        rater = by_strength(strengths, seed, attentive=name != "careless")
        files.append(write(place / f"{name}.json", answers(comparison, name, rater, seed)))
    assert call(compare, "--answers", *files, "--key", "page.key.json", "--out", "report.json") == 0
    out = capsys.readouterr().out
    assert "2 of 3 raters counted" in out and "careless" in out and "failed, left out" in out
    assert re.search(r"first-model over second-model: \d+\.\d% \(", out)
    assert re.search(r"first-model +\+\d+\.\d Elo \(", out)
    assert "Krippendorff's alpha" in out and "A, on the left" in out
    report: dict[str, Any] = json.loads((place / "report.json").read_text("utf-8"))
    assert [one["model"] for one in report["questions"]["real"]["elo"]] == list(comparison.models)
    assert report["questions"]["fits"]["answers"] == 72


def test_without_a_seed_no_two_pages_are_alike(place: Path) -> None:
    for name in ("x.html", "y.html"):
        assert call(compare, "first-model", "second-model", "--out", name) == 0
    one, other = key("x.key.json"), key("y.key.json")
    assert one.seed != other.seed and one.id != other.id
    assert not {trial.id for trial in one.trials} & {trial.id for trial in other.trials}


def test_with_a_seed_the_page_is_the_same(place: Path) -> None:
    for name in ("x.html", "y.html"):
        assert call(compare, "first-model", "second-model", "--out", name, "--seed", "4") == 0
    assert (place / "x.html").read_bytes() == (place / "y.html").read_bytes()


def test_part_of_the_pictures_and_given_captions(place: Path) -> None:
    (place / "captions.txt").write_text("".join(f"text {i}\n" for i in range(12)))
    flags = ["--captions", "captions.txt", "--pictures", "5", "--catch-trials", "3", "--quality", "80"]
    assert call(compare, "first-model", "second-model", "--out", "page.html", *flags) == 0
    trials = key().trials
    assert sum(trial.kind == PAIR for trial in trials) == 5 and sum(one.kind in CATCH for one in trials) == 3
    assert all(trial.caption == f"text {int(trial.name)}" for trial in trials)
    assert "data:image/webp" in (place / "page.html").read_text("utf-8")


def test_earlier_files_are_kept(place: Path, capsys: Capture) -> None:
    write(place / "page.key.json", {})
    refused(call(compare, "first-model", "second-model", "--out", "page.html"), capsys, "exists already")
    assert not (place / "page.html").exists()
    assert call(compare, "first-model", "second-model", "--out", "page.html", "--overwrite") == 0


REFUSED = [
    ([], "got neither folders nor --answers"),
    (["first-model"], "expected at least two folders"),
    (["first-model", "second-model", "--answers", "a.json"], "got both folders and --answers"),
    (["--answers", "a.json"], "got --answers without --key"),
    (["first-model", "second-model", "--key", "page.key.json"], "got --key with folders"),
    (["--answers", "a.json", "--key", "k.json", "--pictures", "3"], "got --pictures with --answers"),
    (["--answers", "a.json", "--key", "k.json", "--captions", "c.txt"], "got --captions with --answers"),
    (["first-model", "second-model", "--out", "page.json"], "expected a name that ends in .html"),
    (["--answers", "a.json", "--key", "k.json", "--out", "r.html"], "expected a name that ends in .json"),
    (["first-model", "second-model", "--quality", "0"], "--quality"),
    (["first-model", "second-model", "--catch-trials", "-1"], "--catch-trials"),
    (["first-model", "nothing"], "nothing is no folder"),
    (["first-model", "second-model", "--captions", "none.txt"], "none.txt"),
    (["first-model", "second-model", "--captions", "short.txt"], "got 1 captions for 12 pictures"),
    (["--answers", "a.json", "--key", "none.json"], "none.json"),
    (["--answers", "none.json", "--key", "page.key.json"], "none.json"),
    (["--answers", "first-model/00000.png", "--key", "page.key.json"], "is not JSON"),
    (["--answers", "page.key.json", "--key", "page.key.json"], "holds no answers to a comparison"),
    (["--answers", "a.json", "--key", "a.json"], "expected the key of a comparison"),
    (["--answers", "a.json", "a.json", "--key", "page.key.json"], "both of the rater anna"),
    (["--answers", "a.json", "--key", "other.key.json"], "answers the comparison"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[said for _, said in REFUSED])
def test_wrong_input_is_one_sentence(words: list[str], said: str, place: Path, capsys: Capture) -> None:
    (place / "short.txt").write_text("one\n")
    for name in ("page", "other"):
        assert call(compare, "first-model", "second-model", "--out", f"{name}.html", "--quiet") == 0
    write(place / "a.json", answers(key(), "anna", by_strength({"first-model": 1, "second-model": 0}, 0)))
    capsys.readouterr()
    refused(call(compare, *words), capsys, said)


def test_a_broken_picture_is_one_sentence_and_writes_nothing(place: Path, capsys: Capture) -> None:
    file = place / "second-model" / "00003.png"
    file.write_bytes(file.read_bytes()[:300])
    refused(call(compare, "first-model", "second-model", "--out", "page.html"), capsys, "00003.png")
    assert not list(place.glob("page*"))
