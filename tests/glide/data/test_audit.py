"""scripts/check_data.py says what a data set holds, what is wrong with it, and shows it."""

import json

import check_data as script  # scripts/check_data.py
import numpy as np
import pytest
from PIL import Image, ImageFont

from glide.data.shards.index_cache import INDEX_SUFFIX
from glide.data.shards.writer import write_shards
from glide.utils.contact_sheet import contact_sheet, wrapped
from glide.utils.errors import InputError
from support.damaged_data import BAD, GOOD, WRONG, damaged
from support.data_files import picture
from support.sample_script import refused
from support.scripts import call
from toolkit.commands.check_data import check_data
from toolkit.commands.check_data_flags import CheckData


@pytest.fixture
def shards(tmp_path, monkeypatch):
    pytest.importorskip("webdataset")
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    write_shards(tmp_path / "set", damaged().items(), 60)
    return str(tmp_path / "set" / "{00000..00001}.tar")


def test_shards_are_counted_listed_and_shown(shards, tmp_path, capsys):
    sheet, report = tmp_path / "out" / "sheet.png", tmp_path / "out" / "report.json"
    found = check_data(CheckData(shards, sheet, pictures=6, size=32, report=report, list=2, write_index=True))
    assert (found.total, found.usable, len(found.broken)) == (GOOD + BAD, GOOD, BAD)
    assert [name.split("/")[1][:3] for name in found.broken] == list(WRONG)
    assert found.sides == {"1-31": GOOD} and found.captions["different"] == GOOD
    said = capsys.readouterr().out
    assert f"100 pictures: {GOOD} usable, {BAD} broken (5.00%)" in said and "and 3 more" in said
    assert json.loads(report.read_text())["broken"] == found.broken
    with Image.open(sheet) as shown:
        assert shown.width % 40 == 0 and shown.width * shown.height >= 6 * 40 * 40
    assert (tmp_path / "set" / ("00001.tar" + INDEX_SUFFIX)).exists()
    with pytest.raises(InputError, match=r"5 of 100 .* more than the 4\.00%"):
        check_data(CheckData(shards, max_broken=0.04))
    with pytest.raises(InputError, match=r"sheet\.png exists already"):
        check_data(CheckData(shards, sheet))


def test_class_folders_and_sizes(tmp_path, capsys):
    for label, name in enumerate(("ant", "bee")):
        for i in range(label + 2):
            picture(tmp_path / name / f"{i}.png", size=(64 * (i + 1), 900))
    found = check_data(CheckData(str(tmp_path)))
    assert found.classes == {"ant": 2, "bee": 3} and found.sides == {"64-127": 2, "128-255": 3}
    assert "classes: 2, of 2 to 3 pictures" in capsys.readouterr().out
    with pytest.raises(InputError, match="is a folder, expected shards"):
        check_data(CheckData(str(tmp_path), write_index=True))


def test_shapes_and_buckets(tmp_path, capsys):
    for name, size in {"a": (60, 60), "b": (96, 64), "c": (96, 64), "d": (20, 60)}.items():
        picture(tmp_path / f"{name}.png", size=size)
    found = check_data(CheckData(str(tmp_path), unconditional=True, buckets=64))
    assert found.shapes == {"higher than 1:2": 1, "about square": 1, "5:4 to 2:1": 2}
    assert found.cropped_by_squares == pytest.approx((0 + 1 / 3 + 1 / 3 + 2 / 3) / 4)
    assert found.buckets == {"64x64": 1, "80x48": 2, "48x96": 1}
    # 96x64 keeps 96x58 of its 64 rows, 20x60 keeps 40 of its 60
    assert found.cropped_by_buckets == pytest.approx((0 + 2 * (1 - 58 / 64) + 1 / 3) / 4)
    assert "a square crop takes 33.3% of a picture away" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"got buckets around 60x60, expected a multiple of 16"):
        check_data(CheckData(str(tmp_path), unconditional=True, buckets=60))


@pytest.mark.slow
def test_the_script_runs_and_nonsense_exits_with_2(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert call(script, "--data", "shapes:one", "--sheet", sheet, "--pictures", 3, "--size", 16) == 0
    assert "drawn on demand" in capsys.readouterr().out and sheet.exists()
    refused(call(script, "--data", tmp_path / "none"), capsys, "none")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"pictures": 0}, "--pictures 0"),
        ({"size": -1}, "--size -1"),
        ({"workers": 0}, "--workers 0"),
        ({"max_broken": 2}, "--max-broken 2"),
        ({"write_index": True}, "drawn on demand"),
        ({"sheet": "x.jpg"}, r"ends in \.png"),
    ],
)
def test_settings_that_do_not_fit(flags, message):
    with pytest.raises(InputError, match=message):
        check_data(CheckData("shapes", **flags))


def test_captions_fit_their_pictures():
    font = ImageFont.load_default(11)
    text = "an extraordinarily long caption of which three lines are more than enough to see what it is about"
    for width in (8, 40, 64, 128, 1000):
        lines = wrapped(text, width, font)
        assert 1 <= len(lines) <= 3 and (width < 20 or all(font.getlength(line) <= width for line in lines))
        assert (lines[-1].endswith("...")) == (" ".join(lines) != text)
    assert wrapped("", 64, font) == [] and wrapped("a ring", 64, font) == ["a ring"]
    sheet = contact_sheet(np.zeros((5, 16, 16, 3), np.uint8), ["", "a", "b c", "d", "コーギー"])
    assert sheet.shape[2] == 3 and (sheet == 0).sum() >= 5 * 16 * 16 * 3
