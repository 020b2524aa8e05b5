"""Aspect buckets: which sizes, which pictures, and batches of one size that are a function of (seed, step, size)."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.data.aspect_buckets import (
    AREA,
    BLOCK,
    MOST,
    Buckets,
    BucketSchedule,
    bucket_sizes,
    cropped_share,
    nearest,
)
from glide.data.datasets import open_data, open_source
from glide.data.latents import EncodedAhead, check_stored, encode_ahead, shards_of
from glide.data.masked import Masked
from glide.data.shards.writer import write_shard
from glide.data.stored_dataset import StoredData
from glide.utils.errors import InputError
from glide.utils.resize import cropped_picture
from support.data_files import same
from support.latent import small_autoencoder

SIZES = ((16, 16), (16, 24), (24, 16))
SHAPES = {"square": (20, 20), "wide": (48, 32), "high": (30, 45), "wider": (90, 40)}  # width, height
COUNTS = {"square": 9, "wide": 12, "high": 5, "wider": 3}


def pictures_in(folder: Path) -> Path:
    """29 pictures of noise, named by their shapes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for kind, (width, height) in SHAPES.items():
        for i in range(COUNTS[kind]):
            Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
                folder / f"{kind}-{i}.png"
            )
            (folder / f"{kind}-{i}.txt").write_text(f"{kind} {i}")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures_in(tmp_path_factory.mktemp("data"))


def opened(folder: Path | str, **options: object) -> StoredData:
    return check_stored(open_data(str(folder), 16, sizes=SIZES, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "multiple"), [(64, 16), (64, 8), (64, 4), (256, 8), (512, 64), (96, 32)])
def test_sizes_are_multiples_of_about_the_area_and_come_in_pairs(side: int, multiple: int) -> None:
    sizes = bucket_sizes(side, multiple)
    assert sizes[0] == (side, side) and len(set(sizes)) == len(sizes)
    assert {(width, height) for height, width in sizes} == set(sizes)
    ratios = [width / height for height, width in sizes]
    assert len(set(ratios)) == len(ratios) and max(ratios) <= MOST
    for height, width in sizes:
        assert height % multiple == width % multiple == 0
        assert 1 / AREA <= height * width / side**2 <= AREA


def test_known_sizes() -> None:
    assert bucket_sizes(64, 16) == ((64, 64), (48, 80), (48, 96), (80, 48), (96, 48))
    with pytest.raises(InputError, match="got buckets around 60x60, expected a multiple of 16"):
        bucket_sizes(60, 16)


def test_a_picture_goes_to_the_nearest_ratio() -> None:
    shapes = np.array([(100, 100), (100, 120), (100, 130), (400, 100), (1, 9), (0, 0)])
    assert nearest(SIZES, shapes).tolist() == [0, 0, 1, 2, 1, 0]


def test_buckets_of_a_folder_and_what_is_cropped(folder: Path) -> None:
    source = open_source(str(folder))
    found = Buckets.of_source(source, SIZES)
    assert found.sizes == ((16, 16), (16, 24), (24, 16)) and found.counts == [9, 15, 5]
    names = [source.name(index) for index in range(len(source))]
    assert {name.split("-")[0] for name, bucket in zip(names, found.of, strict=True) if bucket == 1} == {
        "wide",
        "wider",
    }
    # a picture of 90x40 keeps 60x40 of it, one of 48x32 all
    assert cropped_share((40, 90), (16, 24)) == pytest.approx(1 / 3)
    assert found.cropped(1) == pytest.approx(3 / 15 / 3) and found.cropped(2) == 0.0
    lines = found.report().splitlines()
    assert lines[0] == "3 aspect buckets, width x height:"
    assert lines[2].split() == ["24x16", "15", "pictures,", "6.7%", "of", "each", "cropped", "away"]
    squares = np.average([0, 1 / 3, 1 / 3, 5 / 9], weights=list(COUNTS.values()))
    assert lines[-1] == f"cropped away of a picture: 3.4% (by square crops {squares:.1%})"


def test_small_buckets_join_the_nearest(folder: Path) -> None:
    source = open_source(str(folder))
    found = Buckets.of_source(source, SIZES, least=6)
    assert found.sizes == ((16, 16), (16, 24)) and found.counts == [14, 15]
    assert Buckets.of_source(source, SIZES, least=1000).sizes == ((16, 24),)  # one is left, that of most


def test_a_picture_is_upright_before_its_shape_is_read(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned to the right
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    source = open_source(str(tmp_path), unconditional=True)
    assert Buckets.of_source(source, SIZES).shapes.tolist() == [[30, 20], [20, 30], [0, 0]]


def test_a_schedule_visits_each_bucket_by_its_share_and_counts() -> None:
    counts = [50, 30, 15, 5]
    schedule = BucketSchedule(counts, seed=3)
    steps = 3 * BLOCK
    found = [schedule.at(step) for step in range(steps)]
    seen: Counter[int] = Counter()
    for bucket, visit in found:
        assert visit == seen[bucket]
        seen[bucket] += 1
    for bucket, count in enumerate(counts):
        assert abs(seen[bucket] - steps * count / 100) <= 2 * 3
    fresh = BucketSchedule(counts, seed=3)
    assert [fresh.at(step) for step in reversed(range(steps))] == found[::-1]
    assert [BucketSchedule(counts, seed=4).at(step) for step in range(steps)] != found


def test_batches_are_of_one_size_and_a_function_of_seed_step_and_size(folder: Path) -> None:
    options = {"crop": "random", "flip": True, "seed": 1}
    data = opened(folder, **options)
    forward = [data.batch(step, 4) for step in range(40)]
    sizes = Counter(tuple(batch["image"].shape) for batch in forward)
    assert set(sizes) == {(4, 3, *size) for size in SIZES}
    fresh = opened(folder, **options)
    assert all(same(fresh.batch(step, 4), forward[step]) for step in reversed(range(40)))
    # the rows of a part are those of the whole
    for step in (0, 7):
        parts = [data.batch(step, 4, rows) for rows in (range(2), range(2, 4))]
        assert torch.equal(torch.cat([part["image"] for part in parts]), forward[step]["image"])
        assert [one for part in parts for one in part["caption"]] == forward[step]["caption"]


def test_each_bucket_comes_in_epochs(folder: Path) -> None:
    data = opened(folder)
    seen: dict[tuple[int, ...], list[str]] = {}
    for step in range(60):
        batch = data.batch(step, 3)
        seen.setdefault(tuple(batch["image"].shape[2:]), []).extend(batch["caption"])
    for size, count in zip(SIZES, (9, 15, 5), strict=True):
        whole = len(seen[size]) // count
        epochs = [seen[size][i * count : (i + 1) * count] for i in range(whole)]
        assert whole >= 2 and all(len(set(epoch)) == count for epoch in epochs)
        assert set(map(tuple, epochs)) and len(set(map(tuple, epochs))) == whole


def test_pictures_are_the_middles_that_cover_their_size(folder: Path) -> None:
    batch = opened(folder).batch(2, 4)
    height, width = batch["image"].shape[2:]
    for image, caption in zip(batch["image"], batch["caption"], strict=True):
        file = folder / f"{caption.replace(' ', '-')}.png"
        expected = cropped_picture(Image.open(file), (height, width))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_one_size_for_all(folder: Path) -> None:
    data = open_data(str(folder), 16, sizes=((16, 24),))
    batch = data.batch(0, 29)
    assert batch["image"].shape == (29, 3, 16, 24) and len(set(batch["caption"])) == 29
    square = open_data(str(folder), 16, sizes=((8, 8),))
    assert same(square.batch(3, 4), open_data(str(folder), 8).batch(3, 4))


def test_shards_are_bucketed_alike(folder: Path, tmp_path: Path) -> None:
    def sample(path: Path) -> tuple[str, dict[str, bytes]]:
        return path.stem, {"png": path.read_bytes(), "txt": path.with_suffix(".txt").read_bytes()}

    files = sorted(folder.glob("*.png"))
    for part in range(2):
        write_shard(tmp_path / f"{part}.tar", map(sample, files[part::2]))
    data = opened(tmp_path / "{0..1}.tar")
    assert data.buckets is not None and sorted(data.buckets.counts) == [5, 9, 15]
    batches = [data.batch(step, 4) for step in range(12)]
    assert {tuple(batch["image"].shape[2:]) for batch in batches} == set(SIZES)
    again = opened(tmp_path / "{0..1}.tar")
    assert all(same(again.batch(step, 4), batches[step]) for step in (11, 3, 0))


def test_a_broken_picture_is_replaced_by_one_of_its_bucket(tmp_path: Path) -> None:
    place = pictures_in(tmp_path / "data")
    whole = (place / "wide-3.png").read_bytes()
    (place / "wide-3.png").write_bytes(whole[: len(whole) // 2])
    data = opened(place, max_broken=0.1)
    captions = [one for step in range(60) for one in data.batch(step, 3)["caption"]]
    assert "wide 3" not in captions and "wide 4" in captions and list(data.broken) == ["wide-3.png"]


def test_masks_have_the_size_of_the_batch(folder: Path) -> None:
    masked = Masked(opened(folder), seed=0)
    for step in range(6):
        batch = masked.batch(step, 4)
        assert batch["inpaint_mask"].shape[2:] == batch["image"].shape[2:]


def test_conditions_are_cut_as_their_pictures(folder: Path) -> None:
    data = opened(folder, conditions=("image:1",), crop="random", flip=True)
    for step in range(6):
        batch = data.batch(step, 4)
        grey = batch["condition.image"]
        assert grey.shape == (4, 1, *batch["image"].shape[2:])
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        assert ((batch["image"] * weights).sum(1) - grey[:, 0]).abs().max() <= 1.5


def test_latents_encoded_ahead(folder: Path, tmp_path: Path) -> None:
    data, autoencoder = opened(folder), small_autoencoder()
    encode_ahead(data, tmp_path / "z", "one", autoencoder.encode, range(shards_of(data)))
    made = EncodedAhead(data, tmp_path / "z", "one")
    for step in range(12):
        latents, pictures = made.batch(step, 3), data.batch(step, 3)
        assert latents["caption"] == pictures["caption"]
        expected = autoencoder.encode(pictures["image"].float() / 127.5 - 1)
        torch.testing.assert_close(latents["latents"].float(), expected, atol=0.02, rtol=0.01)
    with pytest.raises(InputError, match=r"was encoded with buckets .* expected None"):
        EncodedAhead(check_stored(open_data(str(folder), 16)), tmp_path / "z", "one")
    other = check_stored(open_data(str(folder), 16, sizes=SIZES[:2]))
    with pytest.raises(InputError, match="was encoded with buckets"):
        EncodedAhead(other, tmp_path / "z", "one")


def test_square_data_are_refused() -> None:
    for sizes in (SIZES, SIZES[1:2]):
        with pytest.raises(InputError, match="got --size or --buckets for shapes, whose pictures are square"):
            open_data("shapes", 16, sizes=sizes)
