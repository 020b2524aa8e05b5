"""Shards are read from anywhere by an index, in an order that depends on nothing but (seed, epoch)."""

import json
import os
import subprocess
import sys
import tarfile
import threading

import numpy as np
import pytest
import torch

from glide.data.datasets import open_data
from glide.data.shards import dataset as shards
from glide.data.shards.brace_expansion import shard_names
from glide.data.shards.dataset import Shards
from glide.data.shards.epoch_order import LANES, EpochOrder, order_by_lane
from glide.data.shards.index_cache import INDEX_SUFFIX, shard_index, write_index_beside
from glide.data.shards.tar_index import scan_shard
from glide.data.shards.writer import write_shards
from glide.training.distributed import Processes
from glide.utils import filesystem as paths
from glide.utils.errors import InputError
from glide.utils.filesystem import LocalFile
from glide.utils.shared_cache import SharedCache
from support.data_files import FakeBlobs, captioned, same, values
from support.paths import ROOT
from support.tar_files import png, tar

webdataset = pytest.importorskip("webdataset")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("GLIDE_CACHE", str(folder))
    return folder


def sample(i: int) -> tuple[str, dict[str, bytes]]:
    """Picture number i has the grey value i and the caption "grey i"."""
    return f"{i:05}", {"png": png(i), "txt": f" grey\n{i}".encode(), "json": b'{"caption": "not this"}'}


def written(folder, count: int, per_shard: int = 5):
    write_shards(folder, map(sample, range(count)), per_shard)
    return str(folder / "*.tar")


def test_shards_are_read_as_the_webdataset_library_reads_them(tmp_path):
    spec = written(tmp_path, 12)
    theirs = []
    for path in sorted(tmp_path.glob("*.tar")):
        with path.open("rb") as file:
            members = webdataset.tariterators.tar_file_expander([{"url": str(path), "stream": file}])
            samples = webdataset.tariterators.group_by_keys(members)
            theirs += [(s["__key__"], s["png"], " ".join(s["txt"].decode().split())) for s in samples]
    ours = Shards(spec)
    assert [ours.name(i) for i in range(12)] == [
        f"{i // 5:05}.tar/{key}.png" for i, (key, _, _) in enumerate(theirs)
    ]
    assert [(ours.read(i), ours.caption(i)) for i in range(12)] == [t[1:] for t in theirs]
    assert len(theirs) == 12 and ours.class_names == () and not ours.problems


def test_writing_again_gives_the_same_bytes(tmp_path):
    for name in "ab":
        write_shards(tmp_path / name, map(sample, range(7)), 4)
    assert [p.name for p in sorted((tmp_path / "a").iterdir())] == ["00000.tar", "00001.tar"]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        with tarfile.open(path) as members:
            assert not any(member.pax_headers for member in members)  # they cost more than a small picture
    with pytest.raises(InputError, match=r"'a\.b', expected one without a dot"):
        write_shards(tmp_path / "c", [("a.b", {"png": b""})])
    with pytest.raises(InputError, match="got 0 samples a shard"):
        write_shards(tmp_path / "c", [], 0)


def test_shards_that_are_there_stay(tmp_path):
    written(tmp_path, 7, 3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def untouched():
        raise AssertionError("asked for a sample")
        yield

    with pytest.raises(
        InputError, match=r"already holds shards \(00000\.tar and 2 more\): give another folder"
    ):
        write_shards(tmp_path, untouched())
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_shard_that_another_process_writes_meanwhile_stays(tmp_path):
    def samples():
        yield sample(0)
        (tmp_path / "00000.tar").write_bytes(b"of another")
        yield sample(1)

    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(InputError, match="exists already"):
        write_shards(tmp_path, samples())
    assert (tmp_path / "00000.tar").read_bytes() == b"of another"
    assert not list((tmp_path / "c").glob("*"))


def test_an_epoch_has_every_picture_once_and_a_batch_is_a_function_of_its_step(tmp_path):
    spec = written(tmp_path, 23)
    data = open_data(spec, 4, seed=3)
    batches = [data.batch(step, 4) for step in range(23)]
    seen = [value for batch in batches for value in values(batch)]
    epochs = [seen[i : i + 23] for i in range(0, 92, 23)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs) and len(set(map(tuple, epochs))) == 4
    assert all(b["caption"] == [f"grey {v}" for v in values(b)] for b in batches)
    fresh = open_data(spec, 4, seed=3)
    assert all(same(fresh.batch(step, 4), batches[step]) for step in (17, 3, 22, 0))
    assert not same(open_data(spec, 4, seed=4).batch(0, 4), batches[0])
    assert len(data.captions_for_tokenizer()) == 23


def with_captions(i: int) -> tuple[str, dict[str, bytes]]:
    """Picture number i has three captions; number 0 has one, beside a list that is empty."""
    captions = [f"grey {i}", f" {i},\n grey ", f"a grey {i}"] if i else []
    said = {"captions": captions, "caption": f"grey {i}"}
    return f"{i:05}", {"png": png(i), "txt": f"grey {i}".encode(), "json": json.dumps(said).encode()}


def test_of_several_captions_each_epoch_chooses_one(tmp_path):
    write_shards(tmp_path, map(with_captions, range(9)), 4)
    spec = str(tmp_path / "*.tar")
    source = Shards(spec)
    assert [source.caption(i) for i in range(9)] == [f"grey {i}" for i in range(9)]
    assert source.every_caption(0) == ("grey 0",)
    assert list(source.every_caption(5)) == ["grey 5", "5, grey", "a grey 5"]
    data = open_data(spec, 4, seed=3)
    batches = [data.batch(step, 9) for step in range(40)]
    told: dict[int, set[str]] = {}
    for batch in batches:
        for value, caption in zip(values(batch), batch["caption"], strict=True):
            told.setdefault(value, set()).add(caption)
    assert told.pop(0) == {"grey 0"}
    assert told == {i: {f"grey {i}", f"{i}, grey", f"a grey {i}"} for i in range(1, 9)}
    fresh = open_data(spec, 4, seed=3)  # no matter what was asked before
    assert all(same(fresh.batch(step, 9), batches[step]) for step in (17, 3, 0))
    assert fresh.batch(2, 9, range(4, 9))["caption"] == batches[2]["caption"][4:]
    assert any(open_data(spec, 4, seed=4).batch(s, 9)["caption"] != batches[s]["caption"] for s in range(3))
    assert len(data.captions_for_tokenizer()) == 3 * 8 + 1


@pytest.mark.parametrize("wrong", [[3], ["grey", None], ["grey", " "]])
def test_captions_that_are_no_text_are_a_problem_of_their_picture(tmp_path, wrong):
    files = {"a.png": png(1), "a.json": json.dumps({"captions": wrong}).encode()}
    tar(tmp_path / "00000.tar", {**files, "b.png": png(2), "b.txt": b"grey"})
    source = Shards(str(tmp_path / "*.tar"))
    assert len(source) == 1 and "caption" in source.problems["00000.tar/a.png"]


@pytest.mark.parametrize("kind", ["shards", "folder", "shapes"])
def test_processes_share_the_rows_of_the_same_batches(tmp_path, kind):
    spec = {"shards": lambda: written(tmp_path, 13), "folder": lambda: str(captioned(tmp_path, 13))}
    data = open_data(spec[kind]() if kind in spec else "shapes", 8, seed=1)
    for step in range(5):
        whole = data.batch(step, 6)
        for world in (1, 2, 3, 6):
            parts = [data.batch(step, 6, Processes(rank, world).rows(6)) for rank in range(world)]
            assert torch.equal(torch.cat([part["image"] for part in parts]), whole["image"])
            assert [caption for part in parts for caption in part["caption"]] == whole["caption"]


def test_rows_of_a_batch_are_its_places_by_lanes():
    assert order_by_lane(range(8, 20), 100, 1) == range(8, 20)
    assert order_by_lane(range(8, 16), 100, 4) == [8, 12, 10, 14, 9, 13, 11, 15]
    assert order_by_lane(range(6, 12), 9, 4) == [8, 6, 7, 9, 11, 10]  # an epoch comes after the other
    for size, world in ((6, 2), (12, 4), (24, 8), (48, 16)):
        for step in range(5):
            rows = order_by_lane(range(step * size, (step + 1) * size), 10**6, 16)
            parts = [
                {rows[row] % world for row in Processes(rank, world).rows(size)} for rank in range(world)
            ]
            assert all(len(part) == 1 for part in parts) and len(set.union(*parts)) == world


ORDERS = [[5], [1, 2, 3], [100, 0, 37], [40] * 30, [3] * 50]
SMALL = {"block": 4, "mixed": 3, "window": 32, "lanes": 4}


@pytest.mark.slow
@pytest.mark.parametrize("counts", ORDERS)
def test_an_order_has_every_index_once_from_anywhere(counts):
    for sizes in ({}, SMALL):
        order = EpochOrder(counts, 1, 0, **sizes)
        places = [order[i] for i in range(len(order))]
        assert sorted(places) == list(range(sum(counts)))
        fresh = EpochOrder(counts, 1, 0, **sizes)
        assert [fresh[i] for i in reversed(range(len(order)))] == places[::-1]
    if sum(counts) > 10:
        assert places != [EpochOrder(counts, 1, 1, **SMALL)[i] for i in range(len(order))]


def test_an_order_is_mixed_but_stays_in_a_window_of_neighbours():
    order = EpochOrder([1000] * 40, 0, 0)
    first = np.array([order[i] for i in range(8192)])
    assert len(set(first // 1000)) <= 16  # shards that are open at once
    blocks = set(first // 64)
    assert len(blocks) < 8192 / 64 * 1.6  # a block is read for (nearly) all of its pictures
    assert len(set(first[:64] // 64)) > 40  # and a batch comes from many
    # each of two processes needs about half of the blocks, whatever the size of a batch is
    for size in (64, 6):
        places = [order_by_lane(range(b, b + size), len(order), LANES) for b in range(0, 8190, size)]
        for half in (slice(size // 2), slice(size // 2, None)):
            read = {order[place] // 64 for batch in places for place in batch[half]}
            assert len(read) < 0.65 * len(blocks)
    # any two places of a batch are about as far apart as by chance
    gaps = np.abs(np.diff(first[:4096] % 1000))
    assert 280 < gaps.mean() < 390  # 333 for independent places


def test_every_layout_that_img2dataset_and_others_write(tmp_path):
    tar(
        tmp_path / "a.tar",
        {
            "./000/1.jpg": png(1),
            "./000/1.txt": "コーギー".encode(),
            "./000/1.json": b'{"caption": "beside a txt"}',
            "2.json": b'{"caption": "from\\n json", "status": "success"}',
            "2.webp": png(2),
            "3.text.txt": b"not its caption",
            "3.PNG": png(3),
            "3.json": b'{"text": "from text"}',
            "__meta__.json": b"{}",
            "._1.jpg": b"what a Mac puts there",
            "readme": b"no dot",
        },
    )
    data = Shards(str(tmp_path / "a.tar"))
    found = {data.name(i): data.caption(i) for i in range(len(data))}
    assert found == {"a.tar/./000/1.jpg": "コーギー", "a.tar/2.webp": "from json", "a.tar/3.PNG": "from text"}
    assert not data.problems
    assert values(open_data(str(tmp_path / "a.tar"), 4).batch(0, 3)) != []


def test_classes_come_from_cls_files(tmp_path):
    for shard in range(2):
        members = {f"{i}.{s}": d for i in range(4) for s, d in (("png", png(i)), ("cls", b"%d\n" % (i % 3)))}
        tar(tmp_path / f"{shard}.tar", members)
    data = open_data(str(tmp_path / "{0,1}.tar"), 4)
    assert data.class_names == ("0", "1", "2") and data.captions_for_tokenizer() == []
    batch = data.batch(0, 8)
    assert batch["y"].dtype == torch.int64 and batch["y"].tolist() == [v % 3 for v in values(batch)]
    (tmp_path / "classnames.txt").write_text("cat\ndog\nbee\nfox\n")
    assert open_data(str(tmp_path / "*.tar"), 4).class_names == ("cat", "dog", "bee", "fox")
    (tmp_path / "classnames.txt").write_text("cat\ncat\ndog\n")
    with pytest.raises(
        InputError, match=r"classnames\.txt has 2 different names, expected one for each of the 3"
    ):
        open_data(str(tmp_path / "*.tar"), 4)


def test_faulty_samples_are_reported_and_counted(tmp_path):
    good = {f"{i}.{s}": d for i in range(10, 90) for s, d in (("png", png(i)), ("txt", b"good"))}
    bad = {
        "0.png": png(),  # no caption
        "1.txt": b"no picture",
        "2.png": png(),
        "2.txt": b" \n",
        "3.png": png(),
        "3.txt": b"\xff\xfe",
        "4.png": png(),
        "4.json": b"{",
        "5.png": png(),
        "5.json": b'{"caption": null}',
        "6.png": b"",
        "6.txt": b"an empty file",
        "7.jpg": png()[:40],
        "7.txt": b"a cut one",
        "8.png": b"no picture",
        "8.txt": b"some text",
    }
    tar(tmp_path / "a.tar", {**bad, **good})
    data = open_data(str(tmp_path / "a.tar"), 4, max_broken=0.2)
    at_once = {f"a.tar/{name}" for name in ("0.png", "1", "2.png", "3.png", "4.png", "5.png")}
    assert set(data.broken) == at_once and len(data) == 83
    assert data.broken["a.tar/0.png"] == "has no caption" and data.broken["a.tar/1"] == "has no picture"
    assert "2.txt is empty" in data.broken["a.tar/2.png"] and "not UTF-8" in data.broken["a.tar/3.png"]
    assert data.broken["a.tar/4.png"] == "has no caption (4.json is not JSON)"
    epoch = [data.batch(step, 83 // 4) for step in range(5)]
    assert set(data.broken) == at_once | {"a.tar/6.png", "a.tar/7.jpg", "a.tar/8.png"}
    assert {v for b in epoch for v in values(b)} == set(range(10, 90))
    again = open_data(str(tmp_path / "a.tar"), 4, max_broken=0.2)
    assert all(same(again.batch(step, 83 // 4), epoch[step]) for step in (4, 2, 0))
    with pytest.raises(
        InputError, match=r"6 of 89 pictures in .*a\.tar are broken, .* 5\.00%.*a\.tar/0\.png"
    ):
        open_data(str(tmp_path / "a.tar"), 4)


def test_a_truncated_shard_gives_its_complete_samples(tmp_path):
    written(tmp_path, 9, per_shard=9)
    whole = (tmp_path / "00000.tar").read_bytes()
    index = scan_shard(str(tmp_path / "00000.tar"))
    cases = {
        index.offsets[6] + 10: (6, "is cut off with its shard"),
        index.offsets[6] - 100: (6, "lost"),  # in a header
        index.offsets[6] + index.sizes[6]: (7, "lost"),  # no end, and the last caption is missing
    }
    for length, (pictures, reason) in cases.items():
        (tmp_path / "cut.tar").write_bytes(whole[:length])
        data = Shards(str(tmp_path / "cut.tar"))
        assert len(data) in (pictures, pictures - 1), length
        assert any(reason in said for said in data.problems.values()), (length, data.problems)
    spoiled = bytearray(whole)
    spoiled[index.offsets[3] - 512 : index.offsets[3] - 12] = os.urandom(500)
    (tmp_path / "cut.tar").write_bytes(spoiled)
    data = Shards(str(tmp_path / "cut.tar"))
    assert len(data) == 3 and "is damaged at byte" in data.problems["cut.tar/(end)"]


def test_unusable_shards_are_one_sentence(tmp_path):
    (tmp_path / "text.tar").write_text("no tar at all, " * 100)
    (tmp_path / "empty.tar").write_bytes(b"")
    tar(tmp_path / "words.tar", {"a.txt": b"x"})
    wrong = {
        "text.tar": r"text\.tar is no tar file",
        "empty.tar": r"empty\.tar is no tar file",
        "words.tar": r"holds no picture that can be used \(words\.tar/a has no picture\)",
        "none.tar": r"1 of the 1 shards .*none\.tar are not there",
        "{0..2}.tar": r"3 of the 3 shards .* first .*0\.tar",
        "x*.tar": "no file fits",
        "{0..tar": "is no list of shards",
        "words.tar::" + str(tmp_path / "words.tar"): "twice",
        "a.tar.gz": "compressed shards .*gunzip",
    }
    for name, message in wrong.items():
        with pytest.raises(InputError, match=message) as caught:
            open_data(str(tmp_path / name), 4)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"holds no pictures .* its shards are named .*\*\.tar"):
        open_data(str(tmp_path), 4)


def test_names_of_shards(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.tar").touch()
    at = str(tmp_path)
    assert (
        shard_names(f"{at}/{{00..11}}.tar")
        == [f"{at}/{i:02}.tar" for i in range(12)]
        == shard_names(f"{at}/*.tar")
    )
    assert shard_names(f"{at}/{{03,01}}.tar") == [f"{at}/03.tar", f"{at}/01.tar"]
    assert shard_names(f"{at}/00.tar::{at}/0[1-2].tar") == [f"{at}/{i:02}.tar" for i in range(3)]


def test_without_the_library_braces_name_the_extra(tmp_path, monkeypatch):
    written(tmp_path, 3)
    monkeypatch.setitem(__import__("sys").modules, "webdataset.shardlists", None)
    with pytest.raises(InputError, match=r"pip install 'glide-toolkit\[shards\]'"):
        shard_names(str(tmp_path / "{00000..00000}.tar"))
    assert len(Shards(str(tmp_path / "*.tar"))) == 3  # reading itself needs nothing


def test_an_index_is_kept_while_its_shard_is_the_same(tmp_path, cache, monkeypatch):
    written(tmp_path, 3)
    path = str(tmp_path / "00000.tar")
    index = shard_index(path)
    scans = []
    monkeypatch.setattr(
        "glide.data.shards.index_cache.scan_shard", lambda path: scans.append(path) or scan_shard(path)
    )
    assert shard_index(path) == index and not scans
    (kept,) = (cache / "shards").iterdir()
    for content in ("{", '{"format": 2}', json.dumps({"format": 2, "size": 0, "stamp": "", "index": {}})):
        kept.write_text(content)
        assert shard_index(path) == index
    assert len(scans) == 3
    (tmp_path / "00000.tar").unlink()
    write_shards(tmp_path, map(sample, range(1, 5)))  # written anew
    assert len(shard_index(path).names) == 4 and len(scans) == 4

    write_index_beside(path)  # beside the shard it is found first
    assert (tmp_path / ("00000.tar" + INDEX_SUFFIX)).exists()
    monkeypatch.setenv("GLIDE_CACHE", "/proc/no such folder")
    assert len(shard_index(path).names) == 4 and len(scans) == 4
    os.utime(path, ns=(0, 0))
    assert len(shard_index(path).names) == 4 and len(scans) == 5  # nor is it an error that it cannot be kept


def test_without_a_cache_folder_nothing_stays(tmp_path):
    """Neither beside the shards nor at home."""
    written(tmp_path / "data", 3)
    (tmp_path / "tmp").mkdir()
    shard = str(tmp_path / "data/00000.tar")
    code = f"from glide.data.shards.index_cache import shard_index; print(shard_index({shard!r}).names)"
    env = {k: v for k, v in os.environ.items() if k != "GLIDE_CACHE"}
    env |= {"TMPDIR": str(tmp_path / "tmp"), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    before = sorted(tmp_path.rglob("*"))
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=ROOT)
    assert sorted(tmp_path.rglob("*")) == before


def test_held_out_pictures_of_shards(tmp_path):
    spec = written(tmp_path, 40)
    train, held_out = (open_data(spec, 4, held_out=0.25, split=split) for split in ("train", "held_out"))
    assert len(train) + len(held_out) == 40 and 4 < len(held_out) < 16
    assert sorted(values(train.batch(0, len(train))) + values(held_out.batch(0, len(held_out)))) == list(
        range(40)
    )


class RemoteTars(FakeBlobs):
    """Counts the requests."""

    def __init__(self, root) -> None:
        super().__init__(root)
        self.opened: list[str] = []

    def BlobFile(self, path, mode):
        self.opened.append(path)
        return super().BlobFile(path, mode)

    def stat(self, path):
        found = os.stat(path.replace("gs://bucket", str(self.root)))
        return type("Stat", (), {"size": found.st_size, "mtime": found.st_mtime, "version": "1"})

    def glob(self, pattern):
        import glob

        found = glob.glob(pattern.replace("gs://bucket", str(self.root)))
        return [name.replace(str(self.root), "gs://bucket") for name in found]


def test_remote_shards_are_read_by_blocks(tmp_path, monkeypatch):
    blobs = RemoteTars(tmp_path)
    monkeypatch.setattr(paths, "_remote", lambda: blobs)
    spec = written(tmp_path / "set", 40, per_shard=20)
    local = open_data(spec, 4)
    for name in ("gs://bucket/set/*.tar", "gs://bucket/set/{00000..00001}.tar"):
        remote = open_data(name, 4)
        blobs.opened.clear()
        assert all(same(remote.batch(step, 10), local.batch(step, 10)) for step in range(4))
        # two shards, each of less than a block: one request for its pictures, and the index is at hand
        assert sum(path.endswith(".tar") for path in blobs.opened) == 2
    with pytest.raises(InputError, match=r"cannot read gs://bucket/set/00002\.tar"):
        open_data("gs://bucket/set/0000{0..2}.tar", 4)


def test_a_file_stays_open_while_somebody_holds_it(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(range(200)))
    file = LocalFile(path)
    path.unlink()
    assert file.read(10, 5) == bytes(range(10, 15)) and file.read(190, 50) == bytes(range(190, 200))
    number = file._file
    del file
    with pytest.raises(OSError):
        os.fstat(number)
    with pytest.raises(InputError, match=r"cannot read .*a\.tar"):
        LocalFile(path)


def test_a_value_is_made_once_for_all_who_ask():
    held: SharedCache[int, int] = SharedCache(2)
    made = []

    def make(key: int) -> int:
        made.append(key)
        if key == 3:
            raise InputError("three")
        return key * 10

    threads = [threading.Thread(target=held.get, args=(1, lambda: make(1))) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert made == [1] and held.get(1, lambda: make(1)) == 10
    for _ in range(2):
        with pytest.raises(InputError, match="three"):
            held.get(3, lambda: make(3))
    held.get(2, lambda: make(2)), held.get(4, lambda: make(4))
    assert held.get(1, lambda: make(1)) == 10 and made == [1, 3, 3, 2, 4, 1]


def test_names_of_shards_in_several_folders_differ(tmp_path):
    for name in ("a", "b"):
        written(tmp_path / name, 2)
    data = Shards(f"{tmp_path}/{{a,b}}/00000.tar")
    assert [data.name(i) for i in (0, 3)] == ["a/00000.tar/00000.png", "b/00000.tar/00001.png"]
    assert shards.CLASS_NAMES == "classnames.txt" and not (tmp_path / "a" / shards.CLASS_NAMES).exists()
