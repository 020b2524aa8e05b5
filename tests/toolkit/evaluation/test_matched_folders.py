"""Folders that are compared: pictures matched by name, captions of recipes, pictures without their metadata."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glide.utils.errors import InputError
from glide.utils.images import save_png
from support.comparison import HOSTILE, folders
from toolkit.evaluation.matched_folders import damaged, data_uri, digest, match


def strings(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def picture_of(uri: str) -> tuple[bytes, Image.Image]:
    kind, _, text = uri.partition(";base64,")
    data = base64.b64decode(text, validate=True)
    picture = Image.open(io.BytesIO(data))
    assert kind == f"data:image/{str(picture.format).lower()}"
    return data, picture


def refused(paths: list[str], said: str, captions: tuple[str, ...] | None = None) -> None:
    with pytest.raises(InputError) as error:
        match(paths, captions)
    assert said in str(error.value), error.value
    assert "\n" not in str(error.value)


def test_pictures_of_sample_py_are_matched_with_the_captions_of_their_recipes(tmp_path: Path) -> None:
    found = match(strings(folders(tmp_path, ["one", "two"], HOSTILE)))
    assert found.models == ("one", "two") and found.names == [f"{i:05d}" for i in range(4)]
    assert [found.captions[name] for name in found.names] == [" ".join(text.split()) for text in HOSTILE]


def test_grids_and_pictures_before_they_were_enlarged_are_left_out(tmp_path: Path) -> None:
    both = folders(tmp_path, ["one", "two"], ["a", "b"])
    for name in ("grid-00000.png", "00000-64.png", "grid-00001-64.png"):
        (both[0] / name).write_bytes((both[0] / "00000.png").read_bytes())
    (both[0] / "notes.txt").write_text("no picture")
    assert match(strings(both)).names == ["00000", "00001"]


def test_names_in_folders_with_other_endings_and_without_captions(tmp_path: Path) -> None:
    for model, ending in (("one", "png"), ("two", "jpg")):
        for name in ("cats/1", "dogs/1"):
            path = tmp_path / model / f"{name}.{ending}"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (8, 8), "red").save(path)
    found = match(strings([tmp_path / "one", tmp_path / "two"]))
    assert found.names == ["cats/1", "dogs/1"] and found.captions == {}


def test_given_captions_take_the_place_of_the_recipes(tmp_path: Path) -> None:
    both = strings(folders(tmp_path, ["one", "two"], ["a", "b"]))
    assert match(both, ("x", "y")).captions == {"00000": "x", "00001": "y"}
    refused(both, "got 3 captions for 2 pictures in", ("x", "y", "z"))


def test_one_folder_with_recipes_is_enough(tmp_path: Path) -> None:
    both = folders(tmp_path, ["one", "two"], ["a", "b"])
    for file in both[1].glob("*.png"):
        Image.open(file).convert("RGB").save(file)
    assert match(strings(both)).captions == {"00000": "a", "00001": "b"}


def test_folders_of_one_last_name_are_called_by_their_paths(tmp_path: Path) -> None:
    for place in ("x", "y"):
        folders(tmp_path / place, ["samples"], ["a"])
    paths = strings([tmp_path / "x/samples", tmp_path / "y/samples"])
    assert match(paths).models == tuple(paths)


def test_too_few_folders_or_one_twice(tmp_path: Path) -> None:
    (one,) = strings(folders(tmp_path, ["one"], ["a"]))
    refused([one], "expected at least two folders")
    refused([one, one + "/"], "twice, expected different ones")
    refused([one, str(tmp_path / "none")], "is no folder")
    (tmp_path / "empty").mkdir()
    refused([one, str(tmp_path / "empty")], "holds no pictures")


def test_missing_partners_are_named(tmp_path: Path) -> None:
    both = folders(tmp_path, ["one", "two"], [f"caption {i}" for i in range(6)])
    for i in range(5):
        (both[1] / f"{i:05d}.png").unlink()
    said = "two has no partner of 5 of the 6 pictures in"
    refused(strings(both), said)
    refused(strings(both), "(00000, 00001, 00002 and 2 more)")
    refused(strings(both[::-1]), said)


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    both = folders(tmp_path, ["one", "two"], ["a"])
    Image.new("RGB", (8, 8)).save(both[1] / "00000.jpg")
    refused(strings(both), "holds 00000.png and 00000.jpg, expected one picture of each name")


def test_captions_that_differ_or_lack_are_refused(tmp_path: Path) -> None:
    both = [
        *folders(tmp_path / "x", ["one"], ["a dog", "a cat"]),
        *folders(tmp_path / "y", ["two"], ["a dog"]),
    ]
    save_png(both[1] / "00001.png", Image.new("RGB", (8, 8)), {"prompt": "a cow"})
    refused(
        strings(both), "00001.png was drawn from 'a cow' and its partner from 'a cat', expected one caption"
    )
    for folder in both:
        Image.new("RGB", (8, 8)).save(folder / "00001.png")
    refused(strings(both), "1 of 2 pictures have no caption in their recipes (00001)")


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\nbroken"])
def test_a_broken_file_is_refused(data: bytes, tmp_path: Path) -> None:
    both = folders(tmp_path, ["one", "two"], ["a", "b"])
    (both[1] / "00001.png").write_bytes(data)
    refused(strings(both), "00001.png is not a readable picture")


def test_a_truncated_file_is_refused_when_it_is_read(tmp_path: Path) -> None:
    (one,) = folders(tmp_path, ["one"], ["a"])
    whole = (one / "00000.png").read_bytes()
    (one / "00000.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"00000\.png is not a readable picture"):
        data_uri(str(one / "00000.png"))


def test_a_picture_in_the_page_is_exact_and_carries_nothing_else(tmp_path: Path) -> None:
    (one,) = folders(tmp_path, ["secret-model"], ["a caption"])
    data, picture = picture_of(data_uri(str(one / "00000.png")))
    assert np.array_equal(np.asarray(picture), np.asarray(Image.open(one / "00000.png").convert("RGB")))
    assert b"secret" not in data and b"caption" not in data and picture.info == {}


def test_a_picture_of_lower_quality_is_smaller(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ramp = np.add.outer(np.arange(256), np.arange(256)) // 2
    noise = np.random.default_rng(0).normal(0, 6, ramp.shape)
    Image.fromarray((ramp + noise).clip(0, 255).astype(np.uint8)).convert("RGB").save(path)
    small, picture = picture_of(data_uri(str(path), quality=80))
    assert picture.size == (256, 256) and len(small) < path.stat().st_size / 3


def test_transparency_becomes_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "a.png")
    _, picture = picture_of(data_uri(str(tmp_path / "a.png")))
    assert picture.mode == "RGB" and picture.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("size", [(64, 64), (5, 40), (1, 1)])
def test_a_damaged_picture_is_far_from_the_true_one(size: tuple[int, int]) -> None:
    for colour in ("white", "black", "gray"):
        flat = Image.new("RGB", size, colour)
        wrong = damaged(flat, 0)
        assert wrong.size == size and wrong.mode == "RGB"
        far = np.abs(np.asarray(flat, float) - np.asarray(wrong, float)).mean()
        assert size == (1, 1) or far > 15
        assert np.array_equal(np.asarray(wrong), np.asarray(damaged(flat, 0)))


def test_the_digest_changes_with_a_picture(tmp_path: Path) -> None:
    both = folders(tmp_path, ["one", "two"], ["a", "b"])
    first = digest(match(strings(both)))
    assert digest(match(strings(both))) == first
    save_png(both[1] / "00001.png", Image.new("RGB", (16, 16)), {"prompt": "b"})
    assert digest(match(strings(both))) != first
