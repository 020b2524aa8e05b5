"""The built-in data set and its oracle: the same scene everywhere, captions that mean what they say."""

from itertools import combinations

import numpy as np
import pytest
import torch

from glide.shapes.dataset import (
    INNER_SIZES,
    Scene,
    Shapes,
    captions_for_tokenizer,
    held_out_scenes,
    parse_caption,
    render,
    sample_scene,
    write_caption,
)
from glide.shapes.oracle import Oracle, judge_reading, read_scene
from glide.shapes.oracle_error import error_rates
from glide.shapes.render import DISTANCES, coverage
from glide.shapes.scene import BACKGROUNDS, COLORS, COUNTS, POSITIONS, RELATIONS, SHAPES, Fact, vocabulary
from glide.utils.errors import InputError
from glide.utils.images import to_float


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return held_out_scenes(1000, seed=3)


# The data set


def test_batch_is_a_function_of_its_arguments() -> None:
    first, again = Shapes(seed=7, image_size=32), Shapes(seed=7, image_size=32)
    first.batch(step=0, size=3)
    a, b = first.batch(step=5, size=8), again.batch(step=5, size=8)
    assert torch.equal(a["image"], b["image"]) and a["caption"] == b["caption"]
    assert a["image"].shape == (8, 3, 32, 32) and a["image"].dtype == torch.uint8
    assert a["caption"] == first.batch(step=5, size=12)["caption"][:8]
    assert not torch.equal(a["image"], first.batch(step=6, size=8)["image"])
    assert a["caption"] != Shapes(seed=8).batch(step=5, size=8)["caption"]


def test_train_and_held_out_never_meet() -> None:
    def places(split: str, seed: int) -> set[float]:
        data = Shapes(seed=seed, split=split)
        return {thing.x for step in range(20) for scene in data.scenes(step, 16) for thing in scene.things}

    trained = places("train", 0) | places("train", 1) | places("train", 2**32) | places("train", 1 + 2**32)
    assert not trained & (places("held_out", 0) | places("held_out", 1))


def test_kinds_follow_their_weights() -> None:
    data = Shapes.parse_spec("shapes:one=1,count=0,pair=3")
    kinds = [scene.kind for scene in data.scenes(0, 400)]
    assert set(kinds) == {"one", "pair"} and 60 < kinds.count("one") < 140
    assert {scene.kind for scene in Shapes.parse_spec("shapes:count").scenes(0, 50)} == {"count"}
    assert Shapes.parse_spec("shapes").kinds == ("one", "count", "pair")


@pytest.mark.parametrize(
    "spec", ["shape", "shapes:", "shapes:two", "shapes:one=x", "shapes:one=-1", "shapes:one=0"]
)
def test_bad_spec(spec: str) -> None:
    with pytest.raises(InputError):
        Shapes.parse_spec(spec)


def test_a_mixture_may_have_more_pairs_of_which_one_is_inside() -> None:
    scenes = Shapes.parse_spec("shapes:one=1,inside=1").scenes(0, 200)
    inside = [scene for scene in scenes if scene.kind == "pair"]
    assert 70 < len(inside) < 130 and all(scene.kind in ("one", "pair") for scene in scenes)
    for scene in inside:
        assert [fact.value for fact in scene.facts if fact.kind == "relation"] == ["inside"]
        outer, inner = scene.things
        assert (outer.x, outer.y) == (inner.x, inner.y) and outer.radius > inner.radius


def test_bad_arguments() -> None:
    for wrong in ({"split": "test"}, {"seed": -1}, {"kinds": ()}, {"kinds": ("one",), "weights": (1.0, 2.0)}):
        with pytest.raises(InputError):
            Shapes(**wrong)
    with pytest.raises(InputError):
        render(held_out_scenes(1), 4)


# Scenes


def test_things_are_inside_the_picture_and_apart(scenes: list[Scene]) -> None:
    for scene in scenes:
        for thing in scene.things:
            assert min(thing.x, thing.y, 1 - thing.x, 1 - thing.y) >= thing.radius + 0.019, scene
        for a, b in combinations(scene.things, 2):
            apart = max(abs(a.x - b.x), abs(a.y - b.y)) - a.radius - b.radius
            assert apart >= 0.019 or "inside" in scene.caption, scene


def test_inner_things_fit() -> None:
    for outer, sizes in INNER_SIZES.items():
        for shape in SHAPES:
            for size in sizes:
                radius = {"small": 0.128, "medium": 0.170}[size] * 256
                axis = np.arange(256, dtype=np.float32) - 127.5
                one = np.full((1, 1), 1, np.float32)
                inner = coverage(shape, axis[None], axis[:, None], one * radius) > 0
                room = coverage(outer, axis[None], axis[:, None], one * 0.305 * 256)
                assert (room[inner] == (0 if outer == "ring" else 1)).all(), (shape, size, outer)


def test_no_thing_has_its_backgrounds_colour(scenes: list[Scene]) -> None:
    def distance(a: tuple[int, ...], b: tuple[int, ...]) -> float:
        return float(np.linalg.norm(np.subtract(a, b)))

    for a, b in [*combinations(COLORS.values(), 2), *combinations(BACKGROUNDS.values(), 2)]:
        assert distance(a, b) > 100
    for scene in scenes:
        for thing in scene.things:
            assert distance(COLORS[thing.color], BACKGROUNDS[scene.background]) > 100
    assert {thing.color for scene in scenes for thing in scene.things} == set(COLORS)


def test_the_picture_at_64_is_the_one_at_256() -> None:
    scenes = held_out_scenes(64, seed=1)
    small = render(scenes, 64).astype(np.float64)
    large = render(scenes, 256).astype(np.float64).reshape(64, 64, 4, 64, 4, 3).mean((2, 4))
    levels = np.abs(small - large)  # of 255
    assert levels.mean() < 0.2
    assert levels.max() < 110 and (levels > 32).mean() < 1e-3  # sharp tips differ in single pixels


def test_render_matches_a_picture_of_its_own() -> None:
    """One scene drawn here by asking, for 8 x 8 points of each pixel, which thing is on top."""
    scene = next(s for s in held_out_scenes(100, kinds=("pair",)) if "inside" in s.caption)
    points = (np.arange(64 * 8, dtype=np.float32) + 0.5) / (64 * 8)
    picture = np.empty((512, 512, 3))
    picture[:] = BACKGROUNDS[scene.background]
    for thing in scene.things:
        x, y = (points[None] - thing.x) / thing.radius, (points[:, None] - thing.y) / thing.radius
        picture[DISTANCES[thing.shape](x, y) < 0] = COLORS[thing.color]
    expected = picture.reshape(64, 8, 64, 8, 3).mean((1, 3))
    difference = np.abs(render([scene], 64)[0] - expected)
    assert difference.mean() < 0.5 and difference.max() < 110


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_fill_their_box_and_no_more(shape: str) -> None:
    axis = (np.arange(301, dtype=np.float32) - 150) / 100
    ink = DISTANCES[shape](axis[None], axis[:, None]) < -1e-4
    rows, columns = axis[ink.any(1)], axis[ink.any(0)]
    for low, high in ((rows[0], rows[-1]), (columns[0], columns[-1])):
        assert low >= -1.001 and high <= 1.001 and high - low >= 1.7
        assert abs(low + high) < 0.03  # centred
    assert (ink == ink[:, ::-1]).all()  # left and right alike


# Captions


def test_captions_are_read_back(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert parse_caption(scene.caption) == scene.facts
        assert parse_caption(f"  {scene.caption.upper()}. ") == scene.facts
        assert write_caption(scene.facts) == scene.caption


def test_captions_are_true_of_their_scenes(scenes: list[Scene]) -> None:
    for scene in scenes:
        assert judge_reading(read_scene(scene), scene.facts).all_right, scene
    said = {fact.value for scene in scenes for fact in scene.facts}
    assert said >= {
        *SHAPES,
        *COLORS,
        *POSITIONS,
        *RELATIONS,
        *COUNTS.values(),
        *BACKGROUNDS,
        "small",
        "large",
    }


def test_the_captions_of_the_brief() -> None:
    assert parse_caption("a large red circle to the left of a small blue square") == (
        Fact("count", 2),
        Fact("size", "large", 0),
        Fact("color", "red", 0),
        Fact("shape", "circle", 0),
        Fact("size", "small", 1),
        Fact("color", "blue", 1),
        Fact("shape", "square", 1),
        Fact("relation", "to the left of"),
    )
    assert parse_caption("an orange star in the top left corner on a dark blue background")[-2:] == (
        Fact("position", "in the top left corner"),
        Fact("background", "dark blue"),
    )
    assert parse_caption("three small crosses") == (
        Fact("count", 3),
        Fact("size", "small"),
        Fact("shape", "cross"),
    )
    for caption in (
        "a red ring",
        "a green star in the top left corner",
        "four large white hearts on a black background",
    ):
        assert write_caption(parse_caption(caption)) == caption


@pytest.mark.parametrize(
    "caption", ["", "a dog", "red circle", "a medium ring", "a circle above", "five red rings"]
)
def test_other_captions_are_refused(caption: str) -> None:
    with pytest.raises(InputError):
        parse_caption(caption)


def test_tokenizer_captions_have_every_word() -> None:
    assert {word for caption in captions_for_tokenizer() for word in caption.split()} == vocabulary()


def test_a_scene_takes_few_random_numbers() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        sample_scene(rng)  # StopIteration if the block of numbers were too short


# The oracle


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 256])
def test_oracle_on_true_renderings(size: int) -> None:
    rates = error_rates(held_out_scenes(80, seed=11), size)
    assert rates.pop("true captions") <= 0.01
    assert set(rates) == {"count", "size", "color", "shape", "position", "relation", "background"}
    assert max(rates.values()) <= 0.01


@pytest.mark.slow
def test_oracle_bears_noise_and_soft_edges() -> None:
    assert error_rates(held_out_scenes(40, seed=12), 64, "noise and soft edges")["true captions"] <= 0.03


@pytest.mark.slow
def test_oracle_sees_a_ring_through_a_ring() -> None:
    scenes = [s for s in held_out_scenes(3000, kinds=("pair",), seed=2) if "inside" in s.caption]
    hard = [s for s in scenes if "ring" in (s.things[0].shape, s.things[1].shape)][:25]
    assert len(hard) == 25
    for scene, image in zip(hard, render(hard, 64), strict=True):
        assert Oracle().judge(image, scene.caption).all_right, scene


def test_oracle_reads_tensors_and_arrays_equally() -> None:
    data = Shapes(seed=4, split="held_out")
    scene, image = data.scenes(0, 1)[0], to_float(data.batch(0, 1)["image"])[0]
    judged = Oracle().judge(image, scene.caption)
    assert judged.all_right and judged.reading == Oracle().read(render([scene], 64)[0])
    assert [fact for fact, _ in judged.verdicts] == list(scene.facts)


def test_oracle_finds_a_missing_and_a_spare_thing() -> None:
    scene = next(s for s in held_out_scenes(50, kinds=("count",)) if len(s.things) == 3)
    image = render([scene], 64)[0]
    facts = {number: (Fact("count", number), *scene.facts[1:]) for number in (1, 2, 3, 4)}
    for number, said in facts.items():
        verdicts = dict(Oracle().judge(image, said).verdicts)
        assert verdicts.pop(said[0]) == (number == 3)
        assert all(verdicts.values())


def test_oracle_survives_any_picture() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for picture in (
        noise,
        np.full((64, 64, 3), 77, np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        torch.zeros(3, 40, 40),
    ):
        assert not Oracle().judge(picture, "a red ring above a blue heart on a white background").all_right


def test_oracle_refuses_other_values() -> None:
    wrong = (
        np.zeros((64, 64, 3)),
        np.zeros((64, 32, 3), np.uint8),
        torch.zeros(64, 64, 3),
        torch.zeros(1, 3, 64, 64),
    )
    for picture in wrong:
        with pytest.raises(InputError):
            Oracle().read(picture)
    with pytest.raises(InputError):
        Oracle().judge(np.zeros((64, 64, 3), np.uint8), "a dog")
