"""Folders become batches that depend on nothing but (seed, step, size), and faulty folders are named errors."""

import json
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from glide.data import stored_dataset as stored
from glide.data.datasets import is_held_out, on_device, open_data
from glide.data.folder_index import index_folder
from glide.utils import filesystem as paths
from glide.utils.errors import InputError
from glide.utils.resize import square
from support.data_files import FakeBlobs, captioned, picture, same, values


def test_an_epoch_has_every_picture_once_in_an_order_of_its_own(tmp_path):
    data = open_data(str(captioned(tmp_path, 10)), 4, seed=3)
    batches = [data.batch(step, 4) for step in range(10)]
    assert batches[0]["image"].shape == (4, 3, 4, 4) and batches[0]["image"].dtype == torch.uint8
    seen = [value for batch in batches for value in values(batch)]
    epochs = [seen[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4
    for batch in batches:
        assert batch["caption"] == [f"grey {value}" for value in values(batch)]


def test_a_batch_is_a_function_of_seed_step_and_size(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(9):
        pixels = rng.integers(0, 256, (rng.integers(9, 40), rng.integers(9, 40), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"noise {i}")
    options = {"crop": "random", "flip": True}
    data = open_data(str(tmp_path), 8, seed=1, **options)
    forward = [data.batch(step, 4) for step in range(8)]
    fresh = open_data(str(tmp_path), 8, seed=1, **options)
    assert all(same(fresh.batch(step, 4), forward[step]) for step in reversed(range(8)))
    assert not same(open_data(str(tmp_path), 8, seed=2, **options).batch(0, 4), forward[0])
    # two epochs cut a picture in different ways
    cuts = [open_data(str(tmp_path), 8, seed=1, **options).batch(epoch, 9) for epoch in (0, 1)]
    of_first = [batch["image"][batch["caption"].index("noise 0")] for batch in cuts]
    assert not torch.equal(*of_first)


def test_flip_mirrors_only_if_requested(tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 0] = 255
    for i in range(20):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text("left")
    plain = open_data(str(tmp_path), 4).batch(0, 20)["image"][:, 0, 0, 0]
    assert bool((plain == 255).all())
    flipped = open_data(str(tmp_path), 4, flip=True).batch(0, 20)["image"][:, 0, 0, 0]
    assert 4 < int((flipped == 0).sum()) < 16


@pytest.mark.parametrize(
    ("options", "most", "reads"),
    [
        ({}, 2**29, 20),
        ({"flip": True}, 2**29, 20),
        ({}, 20 * 4 * 4 * 3, 20),
        ({}, 20 * 4 * 4 * 3 - 1, 60),
        ({"crop": "random"}, 2**29, 60),
    ],
)
def test_a_small_set_is_decoded_once(tmp_path, monkeypatch, options, most, reads):
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(f"picture {i}")
    monkeypatch.setattr(stored, "CACHE_BYTES", most)
    data = open_data(str(tmp_path), 4, seed=1, **options)
    decoded = []
    decode = stored.decode_picture
    monkeypatch.setattr(stored, "decode_picture", lambda *a, **k: decoded.append(a[1]) or decode(*a, **k))
    batches = [data.batch(step, 10) for step in range(6)]
    assert len(decoded) == reads
    monkeypatch.setattr(stored, "CACHE_BYTES", 0)
    fresh = open_data(str(tmp_path), 4, seed=1, **options)
    assert all(same(fresh.batch(step, 10), batches[step]) for step in (5, 2, 0))


def test_captions_come_from_files_csv_or_jsonl(tmp_path):
    picture(tmp_path / "csv" / "a.png", 1)
    picture(tmp_path / "csv" / "sub" / "b.PNG", 2)
    picture(tmp_path / "csv" / "not named.png", 3)
    text = '\ufefffile,caption,more\na.png,"one, ""two""\nthree",x\n./sub/b.PNG,コーギー,\n'
    (tmp_path / "csv" / "captions.csv").write_text(text, encoding="utf-8")
    picture(tmp_path / "jsonl" / "a.png", 1)
    picture(tmp_path / "jsonl" / "sub" / "b.PNG", 2)
    rows = [
        {"file_name": "a.png", "text": 'one, "two" three'},
        {"file_name": "sub/b.PNG", "text": "コーギー"},
    ]
    lines = "\n".join(map(json.dumps, rows)) + "\n\n"
    (tmp_path / "jsonl" / "metadata.jsonl").write_text(lines)
    picture(tmp_path / "files" / "a.png", 1)
    picture(tmp_path / "files" / "sub" / "b.PNG", 2)
    (tmp_path / "files" / "a.txt").write_text('one, "two"\nthree')
    (tmp_path / "files" / "sub" / "b.txt").write_text("コーギー", encoding="utf-8")
    (tmp_path / "files" / "readme.md").write_text("other files do not matter")
    (tmp_path / "files" / ".hidden.png").write_text("")
    with pytest.warns(
        UserWarning, match=r"left out of .*, 1 in all: not named\.png is not named in captions\.csv"
    ):
        data = open_data(str(tmp_path / "csv"), 4)
    assert list(data.broken) == ["not named.png"] and len(data) == 2
    (tmp_path / "csv" / "not named.png").unlink()
    for layout in ("csv", "jsonl", "files"):
        data = open_data(str(tmp_path / layout), 4)
        batch = data.batch(0, 2)
        assert dict(zip(values(batch), batch["caption"], strict=True)) == {
            1: 'one, "two" three',
            2: "コーギー",
        }
        assert sorted(data.captions_for_tokenizer()) == ['one, "two" three', "コーギー"]
        assert data.class_names == ()


def test_class_folders_are_labels_in_the_order_of_their_names(tmp_path):
    for label, name in enumerate(["Zebra", "ant", "bee", "猫"]):
        for i in range(3):
            picture(tmp_path / name / f"{i}.png", 10 * label + i)
    data = open_data(str(tmp_path), 4)
    assert data.class_names == ("Zebra", "ant", "bee", "猫")
    batch = data.batch(0, 12)
    assert batch["y"].dtype == torch.int64 and "caption" not in batch
    assert batch["y"].tolist() == [value // 10 for value in values(batch)]
    assert data.captions_for_tokenizer() == []


def test_held_out_files_are_a_share_that_training_never_sees(tmp_path):
    captioned(tmp_path, 40)
    train = open_data(str(tmp_path), 4, held_out=0.25)
    held_out = open_data(str(tmp_path), 4, held_out=0.25, split="held_out")
    assert len(train) + len(held_out) == 40 and 4 < len(held_out) < 16
    seen = values(train.batch(0, len(train))), values(held_out.batch(0, len(held_out)))
    assert sorted(seen[0] + seen[1]) == list(range(40))
    picture(tmp_path / "new.png", 99)  # more files change nothing for those there
    (tmp_path / "new.txt").write_text("new")
    later = open_data(str(tmp_path), 4, held_out=0.25, split="held_out")
    assert set(held_out.source.images) <= set(later.source.images)
    assert 1800 < sum(is_held_out(f"{i}.png", 0.2) for i in range(10_000)) < 2200
    with pytest.raises(InputError, match="none is held_out"):
        open_data(str(tmp_path), 4, split="held_out")


def test_broken_pictures_are_replaced_and_counted_up_to_the_share(tmp_path):
    captioned(tmp_path, 20)
    (tmp_path / "003.png").write_bytes((tmp_path / "003.png").read_bytes()[:40])
    (tmp_path / "007.png").write_text("no picture")
    data = open_data(str(tmp_path), 4, max_broken=0.1)
    epoch = [data.batch(step, 5) for step in range(4)]
    assert list(data.broken) == ["003.png", "007.png"]
    seen = [value for batch in epoch for value in values(batch)]
    assert set(seen) == set(range(20)) - {3, 7} and len(seen) == 20
    assert [c for batch in epoch for c in batch["caption"]] == [f"grey {value}" for value in seen]
    again = open_data(str(tmp_path), 4, max_broken=0.1)
    assert all(same(again.batch(step, 5), epoch[step]) for step in (3, 1, 0, 2))

    strict = open_data(str(tmp_path), 4, max_broken=0.05)
    message = r"2 of 20 pictures .* broken, more than the 5\.00% .*: 003\.png, 007\.png .*raise --max-broken"
    with pytest.raises(InputError, match=message):
        strict.batch(0, 20)
    with pytest.raises(InputError, match=r"1 of 20 pictures .* more than the 0\.00%"):
        open_data(str(tmp_path), 4, max_broken=0).batch(0, 20)


def test_a_folder_of_nothing_but_broken_pictures_ends(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.png").write_text("x")
        (tmp_path / f"{i}.txt").write_text("x")
    with pytest.raises(InputError, match=r"every picture in .* is broken"):
        open_data(str(tmp_path), 4, max_broken=1).batch(0, 1)


def test_a_set_smaller_than_the_batch_is_an_error(tmp_path):
    data = open_data(str(captioned(tmp_path, 3)), 4)
    data.check_batch(3)
    for ask in (data.check_batch, lambda size: data.batch(0, size)):
        with pytest.raises(InputError, match=r"has 3 pictures, fewer than a batch of 4"):
            ask(4)


def test_unusable_arguments_are_refused(tmp_path):
    captioned(tmp_path, 2)
    with pytest.raises(InputError, match="missing is no folder"):
        open_data(str(tmp_path / "missing"), 4)
    with pytest.raises(InputError, match=r"000\.png is no folder"):
        open_data(str(tmp_path / "000.png"), 4)
    wrong = {"image_size": 0, "crop": "left", "split": "test", "max_broken": 1.1, "held_out": 1.0, "seed": -1}
    for key, value in wrong.items():
        with pytest.raises(InputError, match=f"{key} .*{value}"):
            open_data(str(tmp_path), **({"image_size": 4} | {key: value}))
    with pytest.raises(InputError, match="expected 'shapes'"):
        open_data("shapes:", 32)


def test_shapes_are_a_data_set_too():
    data = open_data("shapes:one", 16, seed=5)
    data.check_batch(10**4)
    with pytest.raises(InputError, match=r"a batch of 1000000000 pictures.* lower --batch-size"):
        data.check_batch(10**9)
    batch = data.batch(2, 3)
    assert batch["image"].shape == (3, 3, 16, 16) and len(batch["caption"]) == 3
    assert same(batch, open_data("shapes:one", 16, seed=5).batch(2, 3))
    assert not same(batch, open_data("shapes:one", 16, seed=5, split="held_out").batch(2, 3))
    assert data.class_names == () and not data.broken and len(data.captions_for_tokenizer()) > 100


def test_remote_folders_are_read_through_blobfile(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "_remote", lambda: FakeBlobs(tmp_path))
    captioned(tmp_path / "set", 3)
    picture(tmp_path / "set" / "deep" / "x.png", 9)
    (tmp_path / "set" / "deep" / "x.txt").write_text("grey 9")
    picture(tmp_path / "set" / ".hidden" / "x.png")
    local, remote = open_data(str(tmp_path / "set"), 4), open_data("gs://bucket/set/", 4)
    assert remote.source.images == local.source.images == ["000.png", "001.png", "002.png", "deep/x.png"]
    assert same(remote.batch(0, 4), local.batch(0, 4))
    unread = open_data("gs://bucket/set/", 4)
    (tmp_path / "set" / "000.png").unlink()  # one of four: more than may be broken
    with pytest.raises(InputError, match=r"cannot read gs://bucket/set/000\.png"):
        unread.batch(1, 4)
    with pytest.raises(InputError, match="gs://bucket/none is no folder"):
        open_data("gs://bucket/none", 4)


def test_blobfile_gives_up_after_its_retries(monkeypatch):
    blobfile = pytest.importorskip("blobfile")
    with pytest.raises(Exception) as said:
        blobfile.BlobFile("https://example.com/a.png", "rb")
    reason = getattr(said.value, "strerror", None) or str(said.value)
    with pytest.raises(InputError, match=re.escape(f"cannot read https://example.com/a.png ({reason}")):
        paths.read_bytes("https://example.com/a.png")
    assert isinstance(blobfile.Error("x"), Exception)


@pytest.mark.slow
def test_many_files_are_listed_once_and_quickly(tmp_path):
    for folder in range(4):
        (tmp_path / f"{folder}").mkdir()
        for i in range(1000):
            (tmp_path / f"{folder}" / f"{i}.png").touch()
            (tmp_path / f"{folder}" / f"{i}.txt").touch()
    start = time.perf_counter()
    listing = index_folder(str(tmp_path))
    assert len(listing.images) == 4000 and listing.caption_files[0] == "0/0.txt"
    assert time.perf_counter() - start < 5  # 30 ms on an idle machine


def test_a_task_gets_floats_of_the_bytes(tmp_path):
    for i, value in enumerate((0, 51, 255)):
        picture(tmp_path / f"{i}.png", value)
        (tmp_path / f"{i}.txt").write_text(f"grey {value}")
    batch = open_data(str(tmp_path), 4).batch(0, 3)
    whole, part = on_device(batch, "cpu"), on_device(batch, "cpu", slice(1, 3))
    for row, caption in enumerate(batch["caption"]):
        level = int(caption.removeprefix("grey ")) / 127.5 - 1
        assert torch.equal(whole["image"][row], torch.full((3, 4, 4), level))
    assert part["caption"] == batch["caption"][1:] and torch.equal(part["image"], whole["image"][1:])
    assert same(on_device(whole, "cpu"), whole) and batch["image"].dtype == torch.uint8, (
        "floats stay as they are"
    )


def test_a_square_is_cropped_at_its_position():
    image = torch.arange(6, dtype=torch.uint8).view(1, 6, 1).expand(3, 6, 3).contiguous()
    for x, columns in ((0.0, [0, 1, 2]), (0.5, [2, 3, 4]), (1.0, [3, 4, 5])):
        assert square(image, 3, x)[0, :, 0].tolist() == columns
    assert square(image, 1, 1.0, 0.0, share=1 / 3).tolist() == [[[5, 5, 5]]]
    assert square(image, 7).shape == (7, 7, 3)
    strip = torch.zeros(2, 100_000, 3, dtype=torch.uint8)
    assert square(strip, 64).shape == (64, 64, 3)


def test_large_pictures_shrink_by_averages_without_aliasing():
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    blocks = pixels.float().view(16, 4, 16, 4, 3).mean((1, 3))
    assert (square(pixels, 16).float() - blocks).abs().max() < 1  # rounded once in each direction
    stripes = torch.zeros(90, 90, 3, dtype=torch.uint8)
    stripes[:, ::2] = 255
    shrunk = square(stripes, 20)[:, 2:-2]
    assert int(shrunk.min()) > 90 and int(shrunk.max()) < 165
