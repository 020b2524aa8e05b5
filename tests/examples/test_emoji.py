"""The emoji example: names of sequences, the data set that is built, and the judge."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("webdataset")

import build_emoji
import emoji_font
import judge_emoji
from build_emoji import BuildEmoji, build
from emoji_font import Emoji, find_font, glyphs, on_background
from emoji_names import in_order, kind_of, name_of
from emoji_nearest import Glyphs, features
from judge_emoji import JudgeEmoji

from glide.data.datasets import open_data
from glide.utils.cli import parse
from glide.utils.errors import InputError

NAMES = {
    (0x1F600,): ("grinning face", "single"),
    (0x1F600, 0xFE0F): ("grinning face", "single"),
    (0x31, 0x20E3): ("keycap digit one", "keycap"),
    (0x1F1F3, 0x1F1F4): ("flag of norway", "flag"),
    (0x1F1E6, 0x1F1E6): ("flag with the letters a a", "flag"),
    (0x1F1E6,): ("regional indicator symbol letter a", "single"),
    (0x1F3F4, 0xE0067, 0xE0062, 0xE0073, 0xE0063, 0xE0074, 0xE007F): ("flag of scotland", "flag"),
    (0x1F44B, 0x1F3FD): ("waving hand sign with medium skin", "skin"),
    (0x1F3FB,): ("emoji modifier fitzpatrick type-1-2", "single"),
    (0x1F3C3, 0x1F3FF, 0x200D, 0x2640, 0xFE0F): ("female runner with dark skin", "skin"),
    (0x1F468, 0x200D, 0x1F4BB): ("man with personal computer", "joined"),
    (0x1F469, 0x1F3FB, 0x200D, 0x1F9B0): ("woman with light skin and red hair", "skin"),
    (0x1F468, 0x200D, 0x1F469, 0x200D, 0x1F467): ("family of man, woman and girl", "joined"),
    (0x1F3F3, 0xFE0F, 0x200D, 0x1F308): ("waving white flag with rainbow", "joined"),
    (0x1F6B6, 0x200D, 0x27A1): ("pedestrian facing right", "joined"),
}


@pytest.mark.parametrize("points", NAMES)
def test_names_of_sequences(points):
    assert (name_of(points), kind_of([p for p in points if p != 0xFE0F])) == NAMES[points]
    assert in_order([p for p in points if p != 0xFE0F])


@pytest.mark.parametrize(
    "points",
    [
        (0x1F4BB, 0x200D, 0x1F468, 0x1F3FB),  # a computer before its user
        (0x1F467, 0x200D, 0x1F469, 0x200D, 0x1F468),  # a child before its parents
        (0x2640, 0x200D, 0x1F3C3),
        (0xE007F, 0x1F3F4),
        (0x1F469, 0x200D, 0x1F91D, 0x200D, 0x1F3FC, 0x1F469),
    ],
)
def test_right_to_left_orders_are_left_out(points):
    assert not in_order(points)


def test_what_has_no_name_is_none():
    assert name_of((0x10FFFF,)) is None and name_of((0x1F468, 0x200D, 0x10FFFF)) is None


def drawn(i: int) -> Emoji:
    """A square of its own colour at its own place, on nothing."""
    picture = Image.new("RGBA", (34, 32))
    color = (40 * i % 256, 90 * i % 256, 150 * i % 256, 255)
    ImageDraw.Draw(picture).rectangle((i % 5 * 6, i // 5 * 6, i % 5 * 6 + 9, i // 5 * 6 + 9), fill=color)
    points = (0x1F600 + i,) if i % 4 else (0x1F44B + i, 0x1F3FB)
    return Emoji(points, f"thing {i}", picture)


@pytest.fixture
def font(monkeypatch, tmp_path):
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build_emoji, "find_font", lambda given: given)
    monkeypatch.setattr(build_emoji, "glyphs", lambda font: [drawn(i) for i in range(20)])


def test_the_data_set_is_whole_split_and_the_same_again(font, tmp_path, capsys):
    for name in "ab":
        sizes = build(BuildEmoji(tmp_path / name, held_out=0.2, per_shard=7))
    assert sum(sizes.values()) == 20 and 0 < sizes["held_out"] < 10
    assert "15 single, 5 skin" in capsys.readouterr().out
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    rows = json.loads((tmp_path / "a" / "emoji.json").read_text())
    for split, size in sizes.items():
        data = open_data(str(tmp_path / "a" / "shards" / split / "*.tar"), 16)
        folder = open_data(str(tmp_path / "a" / "folder" / split), 16)
        assert len(data) == len(folder) == size
        captions = {row["name"] for row in rows if row["split"] == split}
        assert set(data.batch(0, size)["caption"]) == set(folder.batch(0, size)["caption"]) == captions
    assert not list(tmp_path.glob(".*"))  # nothing is left aside


def test_some_emoji_of_some_kinds(font, tmp_path):
    args = parse(
        BuildEmoji, None, ["--out", str(tmp_path / "x"), "--count", "6", "--kinds", "single", "--size", "16"]
    )
    assert build(args)["train"] <= 6
    with Image.open(next((tmp_path / "x" / "folder").rglob("*.png"))) as picture:
        assert picture.size == (16, 16) and picture.mode == "RGB"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"count": 0}, "--count 0"),
        ({"held_out": 1.0}, r"--held-out 1\.0"),
        ({"size": 4}, "--size 4"),
        ({"kinds": ("flag",)}, "no emoji of --kinds flag"),
        ({"background": "no colour"}, "--background 'no colour'"),
    ],
)
def test_what_cannot_be_built_leaves_nothing(font, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        build(BuildEmoji(tmp_path / "x", **flags))
    assert not list(tmp_path.glob("*x*"))
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="exists already"):
        build(BuildEmoji(tmp_path / "x"))


def test_fonts_that_are_none(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="there is no font"):
        find_font(tmp_path / "none.ttf")
    (tmp_path / "text.ttf").write_text("no font")
    with pytest.raises(InputError, match=r"text\.ttf"):
        glyphs(tmp_path / "text.ttf")
    monkeypatch.setattr(emoji_font, "_fontconfig", list)
    monkeypatch.setattr(emoji_font, "_usual", lambda: iter(()))
    with pytest.raises(InputError, match="apt install fonts-noto-color-emoji"):
        find_font()


def test_the_real_font(monkeypatch):
    pytest.importorskip("fontTools")
    try:
        font = find_font()
    except InputError:
        pytest.skip("no colour emoji font is installed")
    tables = emoji_font._by_tables(font)
    some = {
        points: picture
        for points, picture in tables.items()
        if points[0] in (0x1F600, 0x1F1F3, 0x1F3C3, 0x31)
    }
    monkeypatch.setattr(emoji_font, "_by_tables", lambda font: some)
    found = {e.name: e for e in glyphs(font)}
    assert len(tables) > 3000
    assert {"grinning face", "flag of norway", "female runner with dark skin", "keycap digit one"} <= set(
        found
    )
    assert found["grinning face"].picture.size == (136, 128)
    # Pillow draws the same glyph, but for its edges
    monkeypatch.setattr(emoji_font, "PLANES", (0x1F600,))
    (alone,) = emoji_font._by_drawing(font).values()
    a, b = (np.asarray(on_background(p), np.float32) for p in (alone, found["grinning face"].picture))
    assert np.abs(a - b).mean() < 3


def test_the_nearest_glyph():
    pictures = [np.asarray(on_background(drawn(i).picture, 64)) for i in range(20)]
    pictures.append(pictures[3].copy())
    known = Glyphs(pictures)
    assert known.nearest(features(pictures)).tolist() == [*range(20), 3]  # of a glyph and its copy the first
    assert known.right(20, 3) and known.right(3, 20) and not known.right(3, 4)
    assert known.own_error(shift=0, noise=0.0) == 0 and known.own_error() < 0.2
    large = [
        np.asarray(Image.fromarray(p).resize((256, 256), Image.Resampling.BICUBIC)) for p in pictures[:20]
    ]
    assert known.nearest(features(large)).tolist() == list(range(20))


def test_the_judge_counts_and_shows(font, tmp_path, monkeypatch, capsys):
    build(BuildEmoji(tmp_path / "set", held_out=0.3, size=32))
    truth = {drawn(i).name: np.asarray(on_background(drawn(i).picture, 32)) for i in range(20)}

    def draws(args, captions):
        for number, caption in enumerate(captions):
            yield truth[caption] if number % 2 else truth["thing 19"]

    monkeypatch.setattr(judge_emoji, "draw", draws)
    data, asked = (str(tmp_path / "set" / "shards" / split / "*.tar") for split in ("train", "held_out"))
    judged = judge_emoji.judge(JudgeEmoji("x", data, out=tmp_path / "out"))
    right = sum(one.right for one in judged) / len(judged)
    assert 0.4 < right < 0.7 and f"top 1: {right:.1%} of {len(judged)} captions" in capsys.readouterr().out
    values = json.loads((tmp_path / "out" / "judged.json").read_text())
    assert values["top1"] == right and len(values["captions"]) == len(judged)
    with Image.open(tmp_path / "out" / "sheet-0.png") as sheet:
        assert sheet.width == 6 * (3 * 32 + 2 * 2 + 8)
    held_out = judge_emoji.judge(JudgeEmoji("x", data, asked, captions=3, out=tmp_path / "held-out"))
    assert len(held_out) == 3
    with pytest.raises(InputError, match="--batch-size 0"):
        judge_emoji.judge(JudgeEmoji("x", data, batch_size=0))


def test_the_judge_draws_with_a_model(text_folder: Path, tmp_path):
    args = JudgeEmoji(str(text_folder), steps=2, batch_size=2, device="cpu", seed=5)
    pictures = list(judge_emoji.draw(args, ["a red circle", "a blue square", "a ring"]))
    assert [p.shape for p in pictures] == [(8, 8, 3)] * 3 and not np.array_equal(pictures[0], pictures[1])
