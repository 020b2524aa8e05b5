"""Shards that lie about their sizes, and lists of shards that no machine can hold, cost nothing but a sentence."""

import io
import json
import os
import tarfile
import tracemalloc

import pytest

from glide.data.datasets import open_data
from glide.data.shards.brace_expansion import _max_names, shard_names
from glide.data.shards.index_cache import FORMAT, INDEX_SUFFIX
from glide.data.shards.tar_index import MAX_CLASSES, ShardIndex, scan_shard
from glide.utils.errors import InputError
from support.tar_files import png, tar

MB = 2**20


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """No test here takes over 200 MB of Python's memory."""
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    tracemalloc.start()
    yield
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200 * MB


def header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A tar header whose size field is exactly this, with the right checksum."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108], block[124 : 124 + len(size)], block[156:157] = b"0000644\0", size, kind
    block[257:265], block[148:156] = b"ustar\x0000", b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("label", [b"1000000000", b"9" * 5000, b"-1", b"%d" % MAX_CLASSES, b"1e3", b""])
def test_a_class_number_beyond_all_bounds_is_a_fault_of_its_sample(tmp_path, label):
    good = {f"{i}.{s}": d for i in range(3) for s, d in (("png", png(i)), ("cls", b"%d" % i))}
    tar(tmp_path / "a.tar", good | {"3.png": png(), "3.cls": label})
    data = open_data(str(tmp_path / "a.tar"), 4, max_broken=0.5)
    assert data.class_names == ("0", "1", "2") and "expected a whole number" in data.broken["a.tar/3.png"]


@pytest.mark.slow
def test_far_more_classes_than_pictures_are_none(tmp_path):
    good = {f"{i}.{s}": d for i in range(3) for s, d in (("png", png(i)), ("cls", b"%d" % i))}
    tar(tmp_path / "a.tar", good | {"3.png": png(), "3.cls": b"1000000"})
    data = open_data(str(tmp_path / "a.tar"), 4, max_broken=0.5)
    assert data.class_names == ("0", "1", "2")
    assert data.broken["a.tar/3.png"] == "has the class 1000000, expected one below 65536"
    tar(tmp_path / "b.tar", {"3.png": png(), "3.cls": b"1000000"})
    with pytest.raises(InputError, match=r"no picture that can be used .*has the class 1000000"):
        open_data(str(tmp_path / "b.tar"), 4)
    tar(tmp_path / "c.tar", {"3.png": png(), "3.cls": b"65535"})
    assert len(open_data(str(tmp_path / "c.tar"), 4).class_names) == 65536
    (tmp_path / "classnames.txt").write_text("\n".join(map(str, range(200_000))))
    with pytest.raises(InputError, match="has 200000 different names"):
        open_data(str(tmp_path / "a.tar"), 4)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_of_6_gb_is_not_read(tmp_path, kind):
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        file.write(header(b"p", b"%011o\0" % (6 << 30), kind))
        file.truncate(512 + (6 << 30) + 1024)
    with pytest.raises(InputError, match="is no tar file"):
        scan_shard(str(path))
    tar(tmp_path / "whole.tar", {"0.png": png(), "0.txt": b"a ring"})
    whole = (tmp_path / "whole.tar").read_bytes()
    end = scan_shard(str(tmp_path / "whole.tar")).offsets[0] + 512
    path.write_bytes(whole[:end] + header(b"p", b"%011o\0" % (6 << 30), kind) + b"\0" * 4096)
    assert scan_shard(str(path)).names == ["0.png"]


def test_sizes_that_lead_back_or_nowhere_end(tmp_path):
    path = tmp_path / "a.tar"
    for size in (
        b"\xff" * 8 + (-512 % 2**32).to_bytes(4, "big"),
        b"\xff" * 12,
        b"-1",
        b"7_7",
        b"\x80" + b"\xff" * 11,
    ):
        path.write_bytes(header(b"a.png", size) + b"\0" * 1024)
        try:
            assert scan_shard(str(path)).names in ([], ["a.png"])
        except InputError as error:
            assert "is no tar file" in str(error)


def test_a_chain_of_long_names_is_no_recursion(tmp_path):
    chain = (header(b"././@LongLink", b"%011o\0" % 1, b"L") + b"x".ljust(512, b"\0")) * 3000
    (tmp_path / "a.tar").write_bytes(chain + header(b"a.png", b"%011o\0" % 0) + b"\0" * 1024)
    try:
        assert scan_shard(str(tmp_path / "a.tar")).names == []
    except InputError as error:
        assert "is no tar file" in str(error)


def test_a_picture_of_10_gb_is_left_where_it_is(tmp_path):
    path = tmp_path / "a.tar"
    tar(path, {"0.png": png(), "0.txt": b"a ring", "1.txt": b"a ring"})
    whole = path.read_bytes()
    with path.open("wb") as file:
        file.write(whole[: 512 * 6] + header(b"1.png", b"\x80" + (10 << 30).to_bytes(11, "big")))
        file.truncate(512 * 7 + (10 << 30) + 1024)
    data = open_data(str(path), 4, max_broken=0.5)
    assert "too large a file" in data.broken["a.tar/1.png"] and data.batch(0, 1)["caption"] == ["a ring"]


@pytest.mark.parametrize(
    "spec",
    [
        "{0..99999999}.tar",
        "{00000000..99999999}.tar",
        "{99999999..0}.tar",
        "{-5..99999999..2}.tar",
        "{0..99}{0..99}{0..99}{0..99}.tar",
        "{a,b}" * 30 + ".tar",
        "{a,{0..9999999}}.tar",
        "x.tar::{0..99999999}.tar",
        "{0.." + "9" * 5000 + "}.tar",
    ],
)
def test_a_list_of_too_many_shards_is_not_made(spec):
    pytest.importorskip("webdataset")
    with pytest.raises(InputError, match="expected at most 1,000,000: correct the range"):
        shard_names(spec)


def test_names_are_counted_as_they_are_made():
    braces = pytest.importorskip("braceexpand").braceexpand
    for spec in ("{0..9}.tar", "{9..0..3}", "{a,b,c}{1..2}", "x", "{07..10}", "python{2.{5..7},3.{2,3}}"):
        assert len(list(braces(spec))) <= _max_names(spec) < 100


LIES = {
    "names": ["0.png", 5],
    "offsets": [[512, 0.5], [512, "x"], [512, -1], [512, 2**63], [512, True]],
    "sizes": [[1, 10 << 30], [1, -1], [1, None], [1, 2**64]],
    "captions": [["a", 5], ["a"], ["a", []], "ab"],
    "labels": [[None, -1], [None, 10**9], [None, "0"], [0, True]],
    "several": [{"0.png": 5}, {"0.png": []}, {"0.png": [1]}, []],
    "faults": [{"0.png": 5}, [1]],
    "unusable": [{"x": None}, 7],
}


@pytest.mark.parametrize("column", LIES)
def test_a_wrong_index_is_rebuilt(tmp_path, column):
    path = tmp_path / "a.tar"
    members = {f"{i}.{s}": d for i in range(2) for s, d in (("png", png(i)), ("txt", b"a ring"))}
    tar(path, members)
    index = ShardIndex.from_json(scan_shard(str(path)).to_json(), path.stat().st_size).to_json()
    stat = os.stat(path)
    kept = {"format": FORMAT, "size": stat.st_size, "stamp": str(stat.st_mtime_ns)}
    for lie in LIES[column]:
        (tmp_path / f"a.tar{INDEX_SUFFIX}").write_text(json.dumps({**kept, "index": {**index, column: lie}}))
        batch = open_data(str(path), 4).batch(0, 2)
        assert batch["caption"] == ["a ring", "a ring"], lie
    for text in (
        "[" * 100_000,
        "null",
        "5",
        json.dumps({**kept, "index": [1]}),
        json.dumps({**kept, "index": {"x": 1}}),
    ):
        (tmp_path / f"a.tar{INDEX_SUFFIX}").write_text(text)
        assert len(open_data(str(path), 4)) == 2


def test_all_formats_without_captions(tmp_path):
    members = {"0.avif": b"x", "1.jfif": b"x", "2.png": png(), "3.txt": b"no picture"}
    tar(tmp_path / "a.tar", members)
    assert scan_shard(str(tmp_path / "a.tar")).names == ["0.avif", "1.jfif", "2.png"]
    data = open_data(str(tmp_path / "a.tar"), 4, unconditional=True, max_broken=0.9)
    assert len(data) == 3 and data.batch(0, 1).keys() == {"image"} and data.captions_for_tokenizer() == []


def test_names_that_are_not_utf8_can_be_reported_and_stored(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as file:
        for i in range(4):
            for suffix, content in (("png", png(i)), ("txt", b"a ring")):
                member = tarfile.TarInfo(f"\udcff{i}.{suffix}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    for _ in range(2):  # the second time by the index that was kept
        data = open_data(str(tmp_path / "a.tar"), 4, held_out=0.5, max_broken=1)
        names = [data.source.name(i) for i in range(len(data))]
        assert names and all(name.startswith("a.tar/\\udcff") for name in names)
