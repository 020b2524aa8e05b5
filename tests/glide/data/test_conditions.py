"""Pictures that are learned with others: found, cut and mirrored alike; what is missing is counted."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.data.conditions import ConditionArgument
from glide.data.datasets import open_data
from glide.data.shards.writer import write_shards
from glide.networks.picture_conditions import condition_named, cut_condition, palette
from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import label_maps, render
from glide.shapes.scene import SHAPES
from glide.utils.errors import InputError


def folder(path: Path, count: int = 6, size: tuple[int, int] = (40, 30)) -> Path:
    """Pictures of which each pixel's class is its red value over 40, with these classes as maps beside them."""
    for part in ("pictures", "maps"):
        (path / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        classes = (
            rng.integers(0, 5, (size[1] // 10, size[0] // 10)).repeat(10, 0).repeat(10, 1).astype(np.uint8)
        )
        red = np.stack([classes * 40, np.full_like(classes, i), classes * 0], axis=-1)
        Image.fromarray(red).save(path / f"pictures/{i}.png")
        (path / f"pictures/{i}.txt").write_text(f"number {i}")
        Image.fromarray(classes).save(path / f"maps/{i}.png")
    return path


@pytest.mark.parametrize(
    ("text", "spec", "place"),
    [
        ("map:9=maps", "map:9", "maps"),
        ("edges", "image:3", "edges"),
        ("image:1", "image:1", None),
        ("a=b", "image:3", "a=b"),
        ("image=gs://bucket/a=b", "image", "gs://bucket/a=b"),
    ],
)
def test_arguments(text: str, spec: str, place: str | None) -> None:
    assert ConditionArgument.parse(text) == ConditionArgument(spec, place)


@pytest.mark.parametrize("options", [{}, {"crop": "random", "flip": True}])
def test_conditions_are_cut_and_mirrored_as_their_pictures(tmp_path: Path, options: dict) -> None:
    path = folder(tmp_path)
    conditions = (f"map:5={path / 'maps'}", "image:1")
    data = open_data(str(path / "pictures"), 30, conditions=conditions, **options)
    batch = data.batch(0, 6)
    image, classes, grey = batch["image"], batch["condition.map"], batch["condition.image"]
    assert classes.shape == (6, 1, 30, 30) and classes.dtype == torch.uint8 and grey.shape == (6, 1, 30, 30)
    # bicubic pixels between two classes are mixed; at most one of ten columns and rows is
    same = (image[:, 0].float() / 40).round() == classes[:, 0]
    assert same.float().mean() > (0.999 if not options else 0.9)
    assert torch.equal(
        grey[:, 0].float().sub(image[:, 0] * 0.299).abs() < 6, torch.ones(6, 30, 30, dtype=torch.bool)
    )
    part = data.batch(0, 6, range(2, 4))
    assert torch.equal(part["condition.map"], classes[2:4])


def test_missing_partners_are_said_and_counted(tmp_path: Path) -> None:
    path = folder(tmp_path)
    (path / "maps/3.png").unlink()
    Image.open(path / "maps/2.png").save(path / "maps/2.bmp")
    (path / "maps/2.png").unlink()
    spec = [f"map:5={path / 'maps'}"]
    data = open_data(str(path / "pictures"), 30, conditions=spec, max_broken=0.5)
    assert dict(data.broken) == {"3.png": f"has no partner in {path / 'maps'}"}
    assert data.batch(0, 5)["condition.map"].shape == (5, 1, 30, 30)
    with pytest.raises(InputError, match=r"1 of 6 pictures in .* are broken.* has no partner in"):
        open_data(str(path / "pictures"), 30, conditions=spec)
    for file in (path / "maps").iterdir():
        file.rename(path / "maps" / f"other{file.name}")
    with pytest.raises(InputError, match=r"no picture in .* has its condition"):
        open_data(str(path / "pictures"), 30, conditions=spec)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: image.point(lambda p: p + 9), "is a map with the class 1[0-3], expected 0 to 4"),
        (lambda image: image.convert("RGBA"), "is a map with an alpha channel"),
        (lambda image: image.convert("RGB"), "is a map of colours"),
        (lambda image: image.crop((0, 0, 20, 30)), "of 20x30, expected the shape of the picture, 40x30"),
    ],
)
def test_an_unfit_map_is_a_broken_picture(tmp_path: Path, change, reason: str) -> None:
    path = folder(tmp_path)
    for i in range(6):
        with Image.open(path / f"maps/{i}.png") as image:
            change(image).save(path / f"maps/{i}.png")
    data = open_data(str(path / "pictures"), 30, conditions=[f"map:5={path / 'maps'}"])
    with pytest.raises(InputError, match=reason):
        data.batch(0, 6)


def test_second_files_of_shards(tmp_path: Path) -> None:
    path = folder(tmp_path)
    samples = [
        (
            f"{i:05}",
            {
                "png": (path / f"pictures/{i}.png").read_bytes(),
                "map.png": (path / f"maps/{i}.png").read_bytes(),
                "txt": b"a picture",
            },
        )
        for i in range(6)
    ]
    write_shards(tmp_path / "shards", samples)
    write_shards(tmp_path / "fewer", [(key, dict(list(files.items())[::2])) for key, files in samples])
    spec = str(tmp_path / "shards/00000.tar")
    batch = open_data(spec, 30, conditions=["map:5=.map.png"]).batch(0, 6)
    assert torch.equal((batch["image"][:, 0].float() / 40).round().byte(), batch["condition.map"][:, 0])
    assert open_data(spec, 30).batch(0, 6).keys() == {"image", "caption"}
    with pytest.raises(InputError, match=r"no picture in .* has its condition .*has no .map.png beside it"):
        open_data(str(tmp_path / "fewer/00000.tar"), 30, conditions=["map:5=.map.png"])
    with pytest.raises(InputError, match="the ending of a second picture"):
        open_data(spec, 30, conditions=["map:5=maps"])


def test_maps_of_the_built_in_scenes_show_their_shapes() -> None:
    data = open_data("shapes", 32, seed=3, conditions=["map:9", "image:3"])
    batch = data.batch(2, 5)
    scenes = data.shapes.scenes(2, 5)  # type: ignore[attr-defined]
    assert torch.equal(batch["condition.image"], batch["image"])
    for number, scene in zip(batch["condition.map"], scenes, strict=True):
        shapes = {SHAPES[n - 1] for n in number.unique().tolist() if n}
        assert shapes == {thing.shape for thing in scene.things} and 0 in number
    with pytest.raises(InputError, match="map of 4 classes for the built-in scenes, expected 9"):
        open_data("shapes", 32, conditions=["map:4"]).batch(0, 2)
    with pytest.raises(InputError, match="expected none: write --condition map:9"):
        open_data("shapes", 32, conditions=["map:9=maps"])


def test_a_label_map_is_where_the_colours_are() -> None:
    scenes = held_out_scenes(40, ("one",))
    pictures, maps = render(scenes, 64).astype(int), label_maps(scenes, 64)
    for picture, number in zip(pictures, maps, strict=True):
        background = picture[0, 0]
        far = np.abs(picture - background).sum(-1)
        assert ((far > 0.5 * far.max()) == (number > 0)).mean() > 0.99


def test_planes_of_maps_and_images() -> None:
    kind = condition_named("map:3")
    numbers = torch.tensor([[[[0, 1], [2, 255]]]], dtype=torch.uint8)
    assert kind.to_planes(numbers)[0].flatten(1).tolist() == [
        [1, 0, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [1, 1, 1, 1],
    ]
    assert kind.shown(numbers).shape == (1, 3, 2, 2) and len({tuple(c) for c in palette().tolist()}) == 256
    grey = condition_named("image:1").to_planes(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))
    assert grey[0].flatten(1).tolist() == [[-1, 1], [1, 1]]
    coloured = Image.new("P", (4, 4), 2)
    coloured.putpalette([200, 10, 10] * 3)
    assert (kind.read(cut_condition(coloured, kind, (2, 2))) == 2).all()  # the entry, not its colour


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("map", "expected the number of its classes"),
        ("map:0", "1 to 255"),
        ("map:x", "expected"),
        ("image:5", "1 to 4"),
        ("sketch", "expected map or image"),
    ],
)
def test_unfit_specs(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        condition_named(spec)
