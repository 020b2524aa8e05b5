"""Latents encoded ahead: the same as those encoded in the loop, resumable, and refused where something has changed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from glide.data import latents as ahead
from glide.data.datasets import GeneratedData, examples_in, on_device, open_data
from glide.data.latents import EncodedAhead, check_stored, encode_ahead, shards_of
from glide.shapes.dataset import Shapes
from glide.utils.errors import InputError
from support.latent import small_autoencoder

SIZE, COUNT = 32, 11


@pytest.fixture
def few(monkeypatch):
    """Shards of four pictures."""
    monkeypatch.setattr(ahead, "PER_SHARD", 4)


@pytest.fixture
def folder(tmp_path, few):
    place = tmp_path / "pictures"
    place.mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        pixels = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{i:02}.png")
        (place / f"{i:02}.txt").write_text(f"picture {i}")
    return place


def opened(folder, **options):
    return check_stored(open_data(str(folder), SIZE, **options))


def encoded(data, place, autoencoder=None):
    encode = (autoencoder or small_autoencoder()).encode
    encode_ahead(data, place, "one", encode, range(shards_of(data)))
    return EncodedAhead(data, place, "one")


def test_latents_are_those_of_the_loop(folder, tmp_path):
    data = opened(folder)
    made = encoded(data, tmp_path / "latents")
    assert sorted(p.name for p in (tmp_path / "latents").glob("*.npy")) == [
        "00000.npy",
        "00001.npy",
        "00002.npy",
    ]
    autoencoder = small_autoencoder()
    for step in range(4):
        batch, pictures = made.batch(step, 4), data.batch(step, 4)
        assert batch["caption"] == pictures["caption"] and "image" not in batch and examples_in(batch) == 4
        expected = autoencoder.encode(on_device(pictures, "cpu")["image"])
        assert torch.equal(batch["latents"], expected.half())
        part = made.batch(step, 4, range(1, 3))
        assert torch.equal(part["latents"], batch["latents"][1:3])


def test_a_mirrored_picture_has_its_own_latents(folder, tmp_path):
    data = opened(folder, flip=True)
    made = encoded(data, tmp_path / "latents")
    plain, autoencoder = opened(folder), small_autoencoder()
    known = {}
    for step in range(6):
        batch = plain.batch(step, 1)
        image = on_device(batch, "cpu")["image"]
        known[batch["caption"][0]] = [autoencoder.encode(one).half()[0] for one in (image, image.flip(-1))]
    seen = set()
    for step in range(40):
        batch = made.batch(step, 1)
        if (caption := batch["caption"][0]) in known:
            seen |= {
                (caption, i) for i, one in enumerate(known[caption]) if torch.equal(one, batch["latents"][0])
            }
    assert {i for _, i in seen} == {0, 1}


def test_random_crops_are_several(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(ahead, "CROPS", 3)
    data = opened(folder, crop="random")
    made = encoded(data, tmp_path / "latents")
    assert made.arrays[0].shape == (4, 3, 5, 8, 8)
    one = [made.batch(step, COUNT) for step in range(8)]
    first = {bytes(b["latents"][b["caption"].index("picture 3")].numpy()) for b in one}
    assert 1 < len(first) <= 3


def test_an_encoding_that_was_stopped_goes_on(folder, tmp_path):
    data, place = opened(folder), tmp_path / "latents"
    calls = []

    def stops(pixels):
        if len(calls) == 6:
            raise KeyboardInterrupt
        calls.append(0)
        return small_autoencoder().encode(pixels)

    with pytest.raises(KeyboardInterrupt):
        encode_ahead(data, place, "one", stops, range(3))
    assert (place / "00000.json").exists() and not (place / "00001.json").exists()
    with pytest.raises(InputError, match=r"00001\.json is missing"):
        EncodedAhead(data, place, "one")
    before = (place / "00000.npy").stat().st_mtime_ns
    made = encoded(data, place)
    assert (place / "00000.npy").stat().st_mtime_ns == before
    assert torch.equal(made.batch(0, 4)["latents"], encoded(data, tmp_path / "again").batch(0, 4)["latents"])


def test_changes_are_refused(folder, tmp_path):
    data, place = opened(folder), tmp_path / "latents"
    encoded(data, place)
    with pytest.raises(InputError, match="was encoded with autoencoder one, expected two"):
        EncodedAhead(data, place, "two")
    with pytest.raises(InputError, match="was encoded with crop center, expected random"):
        EncodedAhead(opened(folder, crop="random"), place, "one")
    with pytest.raises(InputError, match="was encoded with flip False, expected True"):
        EncodedAhead(opened(folder, flip=True), place, "one")
    with pytest.raises(InputError, match="was encoded with image size 32, expected 16"):
        EncodedAhead(check_stored(open_data(str(folder), 16)), place, "one")
    Image.new("RGB", (40, 48)).save(folder / "07.png")
    with pytest.raises(InputError, match=r"07\.png has changed since its latents"):
        EncodedAhead(opened(folder), place, "one")
    (folder / "07.png").unlink()
    (folder / "07.txt").unlink()
    with pytest.raises(InputError, match="was encoded with pictures 11, expected 10"):
        EncodedAhead(opened(folder), place, "one")


def test_broken_pictures_are_skipped_and_counted(folder, tmp_path):
    (folder / "02.png").write_bytes(b"no picture")
    data = opened(folder, max_broken=0.2)
    made = encoded(data, tmp_path / "latents")
    assert list(made.broken) == ["02.png"]
    captions = [caption for step in range(3) for caption in made.batch(step, 5)["caption"]]
    assert "picture 2" not in captions and len(set(captions)) == COUNT - 1


def test_damage_is_named(folder, tmp_path):
    data, place = opened(folder), tmp_path / "latents"
    encoded(data, place)
    (place / "00001.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"00001\.npy is missing or damaged"):
        EncodedAhead(data, place, "one")
    (place / "00001.json").write_text(json.dumps({"crc32": 3}))
    with pytest.raises(InputError, match=r"00001\.json is damaged"):
        EncodedAhead(data, place, "one")


def test_a_folder_of_other_things_is_left_alone(folder, tmp_path):
    with pytest.raises(InputError, match="which holds other files"):
        encoded(opened(folder), folder)
    assert not (folder / "manifest.json").exists()


def test_scenes_are_drawn_on_demand():
    with pytest.raises(InputError, match="drawn on demand"):
        check_stored(GeneratedData(Shapes(image_size=32)))
