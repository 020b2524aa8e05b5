"""A long list in parts: numbers decide pictures, what is there is skipped, stopped parts go on, shards are read."""

import json
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glide.checkpoints.load import save_model
from glide.data.datasets import open_data
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from glide.utils.parts import Part
from support.conditions import conditioned_model
from support.models import CAPTIONS
from support.sample_script import ROOT, Capture, call, refused
from toolkit.commands.prompt_files import read_rows

COUNT = 21
LIST = [CAPTIONS[i % 2] for i in range(COUNT)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model, and a list of captions."""
    monkeypatch.chdir(tmp_path)
    save_model("model", conditioned_model((), null_condition=False))
    Path("list.txt").write_text("\n\n".join(LIST))
    return tmp_path


def draw(*flags: object) -> int:
    base = ("--model", "model", "--steps", "2", "--dtype", "float32", "--prompts-file", "list.txt")
    return call(*base, *flags)


def pictures(folder: str) -> dict[str, bytes]:
    """The pixels of each picture by name."""
    return {path.name: np.array(Image.open(path)).tobytes() for path in sorted(Path(folder).glob("*.png"))}


def test_parts_are_the_whole_bit_for_bit(folder: Path) -> None:
    assert draw("--part", "1/1", "--out", "whole", "--seed", "5") == 0
    for part in (3, 1, 2):
        assert draw("--part", f"{part}/3", "--out", "parts", "--seed", "5") == 0
    whole = pictures("whole")
    assert list(whole) == [f"{i:08d}.png" for i in range(COUNT)] and len(set(whole.values())) == COUNT
    assert pictures("parts") == whole
    recipe = read_recipe("parts/00000020.png")
    assert (recipe["seed"], recipe["prompt"]) == (25, LIST[20])
    # as any run without parts draws them
    lines = [flag for caption in LIST for flag in ("--prompt", caption)]
    plain = (
        "--model",
        "model",
        "--steps",
        "2",
        "--dtype",
        "float32",
        "--seed",
        "5",
        "--out",
        "plain",
        *lines,
    )
    assert call(*plain) == 0
    assert list(pictures("plain").values()) == list(whole.values())
    assert call("--like", "parts/00000020.png", "--model", "model", "--out", "again") == 0
    assert list(pictures("again").values()) == [whole["00000020.png"]]


def test_only_what_is_missing_or_broken_is_drawn_again(folder: Path, capsys: Capture) -> None:
    assert draw("--part", "1/1", "--out", "out", "--num-samples", "2") == 0
    whole = pictures("out")
    assert len(whole) == 2 * COUNT
    kept = Path("out/00000003.png").stat().st_mtime_ns
    for number in (2, 4, 30):
        Path(f"out/{number:08d}.png").unlink()
    damaged = Path("out/00000041.png")
    damaged.write_bytes(damaged.read_bytes()[:-20])
    capsys.readouterr()
    assert draw("--part", "1/1", "--out", "out", "--num-samples", "2") == 0
    assert "4 pictures drawn, 38 there before" in capsys.readouterr().out
    assert pictures("out") == whole and Path("out/00000003.png").stat().st_mtime_ns == kept
    assert not [*Path("out").glob("*.lock")]


def test_shards_are_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("toolkit.commands.sample_list.PER_SHARD", 4)
    for part in (1, 2):
        assert draw("--part", f"{part}/2", "--to-shards", "shards") == 0
    names = sorted(path.name for path in Path("shards").iterdir())
    assert names == ["manifest.json"] + [
        f"part-{part:05d}-of-00002-{i:05d}.tar" for part in (1, 2) for i in range(3)
    ]
    assert draw("--part", "1/1", "--out", "out") == 0
    batch = open_data("shards/*.tar", 8).batch(0, COUNT)
    found = {
        pixels.permute(1, 2, 0).numpy().tobytes(): c
        for pixels, c in zip(batch["image"], batch["caption"], strict=True)
    }
    assert found == dict(zip(pictures("out").values(), LIST, strict=True))
    # a damaged shard is drawn again, a whole one stays
    one, other = Path("shards/part-00001-of-00002-00001.tar"), Path("shards/part-00001-of-00002-00000.tar")
    whole, stamp = one.read_bytes(), other.stat().st_mtime_ns
    one.write_bytes(whole[:2000])  # within the first picture
    capsys.readouterr()
    assert draw("--part", "1/2", "--to-shards", "shards") == 0
    assert "4 pictures drawn, 6 there before" in capsys.readouterr().out
    assert one.read_bytes() == whole and other.stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_parts_that_are_killed_go_on(folder: Path) -> None:
    command = [
        sys.executable, str(ROOT / "scripts/sample.py"), "--model", "model", "--steps", "4", "--dtype", "float32",
        "--prompts-file", "list.txt", "--part", "1/1", "--to-shards", "out", "--call-size", "1", "--num-samples", "12",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    there = Path("out/part-00001-of-00001-unpacked")
    deadline = time.time() + 60
    while process.poll() is None and time.time() < deadline and len([*there.glob("0*.png")]) < 3:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len([*there.glob("0*.png")])
    total = 12 * COUNT
    assert 3 <= before < total
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"{total - before} pictures drawn, {before} there before" in done.stdout
    assert not there.exists() and open_data("out/*.tar", 8).batch(0, total)["image"].shape == (total, 3, 8, 8)


def test_other_lists_and_settings_are_refused(folder: Path, capsys: Capture) -> None:
    assert draw("--part", "1/4", "--out", "out") == 0
    for flags, said in (
        (("--seed", "1"), "another run (other seed)"),
        (("--scale", "7"), "another run (other recipe)"),
        (("--num-samples", "2"), "other pictures, num_samples"),
    ):
        capsys.readouterr()
        refused(draw("--part", "2/4", "--out", "out", *flags), capsys, said)
    Path("list.txt").write_text("\n".join([*LIST[1:], LIST[0]]))
    refused(draw("--part", "2/4", "--out", "out"), capsys, "other captions")
    for flags, said in (
        (("--part", "5/4"), "expected I/N"),
        (("--part", "x"), "expected I/N"),
        (("--part", "1/2", "--grid"), "got --grid with --part"),
        (("--part", "1/2", "--like", "a.png"), ""),
    ):
        refused(draw(*flags, "--out", "new"), capsys, said)
        assert not Path("new").exists()
    refused(call("--part", "1/2", "--out", "new"), capsys, "give --prompts-file")


def test_every_row_is_in_one_part() -> None:
    for count, parts in ((21, 4), (3, 8), (1_000_000, 64)):
        ranges = [Part(i, parts).of_rows(count) for i in range(1, parts + 1)]
        assert sum(map(len, ranges)) == count and max(map(len, ranges)) - min(map(len, ranges)) <= 1
        assert ranges[0].start == 0 and all(a.stop == b.start for a, b in pairwise(ranges))


def test_files_of_captions(tmp_path: Path) -> None:
    lines = tmp_path / "list.jsonl"
    lines.write_text('{"prompt": "a red\\n ring", "seed": 7}\n\n{"caption": "a star", "other": 1}\n')
    assert [(row.caption, row.seed) for row in read_rows(str(lines))] == [("a red ring", 7), ("a star", None)]
    for text, said in (
        ('["a"]', "line 1 of .* is no JSON object"),
        ('{"prompt": 3}', "line 1 of .* has the prompt 3"),
        ('{"prompt": "a"}\n{"seed": 3}', "line 2 of .* has the prompt"),
        ('{"prompt": "a", "seed": -1}', "the seed in line 1"),
        ("{", "line 1"),
        ("\n", "holds no captions"),
    ):
        lines.write_text(text)
        with pytest.raises(InputError, match=said):
            read_rows(str(lines))


def test_seeds_of_rows(folder: Path) -> None:
    rows = [{"prompt": caption, "seed": 100 + i} for i, caption in enumerate(LIST)]
    Path("list.txt").rename("old.txt")
    Path("list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    base = ("--model", "model", "--steps", "2", "--dtype", "float32", "--prompts-file", "list.jsonl")
    assert call(*base, "--part", "2/7", "--out", "out") == 0
    assert [read_recipe(path)["seed"] for path in sorted(Path("out").glob("*.png"))] == [103, 104, 105]


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"caption": ["a red ring", "a star"], "seed": [5, None], "width": [1, 2]})
    parquet.write_table(table, tmp_path / "list.parquet")
    assert [(row.caption, row.seed) for row in read_rows(str(tmp_path / "list.parquet"))] == [
        ("a red ring", 5),
        ("a star", None),
    ]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        read_rows(str(tmp_path / "bad.parquet"))
