"""The set of emoji in styles, built from made-up packages: joined, split, captioned, drawn, and the same again."""

import hashlib
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("webdataset")
pytest.importorskip("resvg_py")

import style_packages
from build_styles import BuildStyles, build, draw, encode
from style_captions import captions, label, with_article
from style_concepts import Concept, join, read_concepts
from style_packages import LABELS, STYLES, Icon, find_package, plain_code, read_icons

from glide.data.datasets import open_data
from glide.utils.errors import InputError

LICENCES = {"noto": "Apache-2.0", "blob": "Apache-2.0", "twemoji": "CC-BY-4.0", "openmoji": "CC-BY-SA-4.0"}
WORDS = ("noto", "blob", "twemoji", "fluent", "flat")


def emoji(code: int, text: str, **more) -> dict:
    return {"hexcode": f"{code:X}", "label": text, "tags": ["round", "thing"], "group": 4, **more}


TABLE = [
    {"hexcode": "1F1E6", "label": "regional indicator A"},  # no group: a part of flags
    emoji(0x1F3FB, "light skin tone", group=2),
    *(emoji(0x1F400 + i, f"thing {'abcdefghij'[i]}") for i in range(10)),
    emoji(0x1F44B, "waving hand", skins=[emoji(0x1F44C, "waving hand: light skin tone")]),
    {**emoji(0x1F1F3, "flag: Norway", group=9), "hexcode": "1F1F3-1F1F4"},
]


def icon(name: str) -> dict:
    """A square whose colour depends on the name."""
    colour = hashlib.sha256(name.encode()).hexdigest()[:6]
    return {"body": f'<path fill="#{colour}" d="M2 4h8v8h-8z"/>'}


def write(folder: Path, package: str, version: str, files: dict[str, object]) -> None:
    """A tarball as `npm pack` writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package.lstrip('@').replace('/', '-')}-{version}.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, value in files.items():
            data = json.dumps(value).encode()
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def iconify(word: str, icons: dict, chars: dict | None = None, **more) -> dict[str, object]:
    licence = LICENCES.get(word, "MIT")
    return {
        "info.json": {
            "name": f"Set {word}",
            "author": {"name": f"Author of {word}", "url": "https://example.org"},
            "license": {"spdx": licence, "url": f"https://example.org/{licence}"},
        },
        "package.json": {"version": "1.2.0", "license": licence},
        "icons.json": {"prefix": word, "width": 16, "height": 16, "icons": icons, **more},
        "chars.json": chars or {},
    }


def labels(table: list | None = None) -> dict[str, object]:
    sources = ("cldr", "emojibase", "github", "emojibase-legacy")
    short = {f"en/shortcodes/{source}.json": {"1F44B": ["wave", "hi"]} for source in sources}
    return {"en/data.json": TABLE if table is None else table, **short}


@pytest.fixture
def fetched(tmp_path, monkeypatch):
    """A folder of packages: every style has every thing."""
    monkeypatch.setenv("GLIDE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "fetched"
    names = [f"thing-{letter}" for letter in "abcdefghij"]
    hands = ["waving-hand", "waving-hand-light-skin-tone", "flag-norway"]
    for word in (*WORDS, "openmoji"):
        icons = {name: icon(f"{name}{word}") for name in [*names, *hands]}
        write(folder, STYLES[word].package, "1.2.0", iconify(word, icons))
    write(folder, LABELS.package, "17.0.0", labels())
    return folder


def settings(fetched: Path, out: Path, **more) -> BuildStyles:
    given = {"image_size": 16, "styles": WORDS, "held_out": 0.3, "per_shard": 20, **more}
    return BuildStyles(out, packages=fetched, **given)


def test_the_set_is_split_by_pairs_and_the_same_again(fetched, tmp_path, capsys):
    for name in "ab":
        sizes = build(settings(fetched, tmp_path / name))
    assert sum(sizes.values()) == 11 * len(WORDS) and sizes["held_out"] > 5
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    assert len([f for f in files if f.parts[0] == "train"]) > 1
    concepts = json.loads((tmp_path / "a" / "styles.json").read_text())["concepts"]
    assert len(concepts) == 11
    for concept in concepts.values():  # every word was seen, with another one
        assert set(concept["styles"]) == set(WORDS) and "train" in concept["styles"].values()
    said = capsys.readouterr().out
    assert f"55 pictures of 11 concepts in {tmp_path / 'a'}: {sizes['train']} to train with" in said
    assert "@iconify-json/twemoji@1.2.0, CC-BY-4.0" in said


def test_of_emoji_that_are_drawn_alike_the_first_has_the_picture(tmp_path):
    table = [emoji(0x1F6A3, "person rowing boat"), emoji(0x1F6A4, "man rowing boat"), emoji(0x1F408, "cat")]
    icons = {"person-rowing-boat": icon("a"), "man-rowing-boat": icon("a"), "cat": icon("b")}
    found = joined(table, icons, tmp=tmp_path)
    assert {said: name for said, (name, _) in found.items()} == {
        "person rowing boat": "person-rowing-boat",
        "cat": "cat",
    }


def test_pictures_are_what_their_captions_say(fetched, tmp_path):
    sizes = build(settings(fetched, tmp_path / "set"))
    packages = {
        word: read_icons(STYLES[word], find_package(STYLES[word], fetched, fetched)) for word in WORDS
    }
    seen = set()
    for split, size in sizes.items():
        data = open_data(str(tmp_path / "set" / split / "*.tar"), 16)
        batch = data.batch(0, size)
        for pixels, caption in zip(batch["image"], batch["caption"], strict=True):
            concept = caption.removeprefix("a ").split(",")[0].split(" in ")[0]
            word = next(word for word in WORDS if word in caption)
            expected = draw(packages[word].icons[concept.replace(" ", "-")], 16)
            assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.asarray(expected))
            seen.add((concept, word))
    assert len(seen) == 55


def test_a_sample_says_whose_it_is_and_the_attribution_names_all(fetched, tmp_path):
    build(settings(fetched, tmp_path / "set", skin_tones=True, flags=True, held_out=0))
    with tarfile.open(tmp_path / "set" / "train" / "00000.tar") as tar:
        told = [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
    assert not list((tmp_path / "set" / "held_out").glob("*.tar"))
    for one in told:
        word = one["style"]
        package = STYLES[word].package
        assert (one["licence"], one["source"]) == (LICENCES.get(word, "MIT"), f"{package}@1.2.0")
        assert len(one["captions"]) >= 3 and all(word in caption for caption in one["captions"])
    concepts = {
        c["concept"] for c in json.loads((tmp_path / "set" / "styles.json").read_text())["concepts"].values()
    }
    assert {"waving hand with light skin tone", "flag of norway", "waving hand"} <= concepts
    text = (tmp_path / "set" / "ATTRIBUTION.md").read_text()
    assert all(f"Set {word} ({word} style, 13 pictures) by Author of {word}" in text for word in WORDS)
    assert "CC-BY-4.0, https://example.org/CC-BY-4.0" in text and "16x16" in text


def test_a_share_alike_licence_is_taken_by_name_only(fetched, tmp_path):
    with pytest.raises(InputError, match=r"openmoji is under CC-BY-SA-4\.0, expected one of Apache.*--allow"):
        build(settings(fetched, tmp_path / "set", styles=("noto", "openmoji")))
    assert not (tmp_path / "set").exists()
    sizes = build(settings(fetched, tmp_path / "set", styles=("noto", "openmoji"), allow=("CC-BY-SA-4.0",)))
    assert sizes == {"train": 22, "held_out": 0}  # two styles are too few to hold one out


def test_packages_of_node_modules_are_read_too(fetched, tmp_path):
    for path in fetched.glob("*.tgz"):
        scope, _, name = path.name.removesuffix("-1.2.0.tgz").removesuffix("-17.0.0.tgz").rpartition("json-")
        package = f"@iconify-json/{name}" if scope else name
        with tarfile.open(path) as tar:
            tar.extractall(tmp_path / "npm" / name, filter="data")
        shutil.move(tmp_path / "npm" / name / "package", tmp_path / "project" / "node_modules" / package)
    for name, folder in (("a", fetched), ("b", tmp_path / "project")):
        build(settings(folder, tmp_path / name))
    for path in (tmp_path / "a" / "train").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "train" / path.name).read_bytes()


BAD = {
    "no --packages": (lambda f: shutil.rmtree(f), "there is no such folder"),
    "a package is missing": (
        lambda f: (f / "iconify-json-noto-1.2.0.tgz").unlink(),
        "holds no package, expected one",
    ),
    "two versions": (
        lambda f: shutil.copy(f / "iconify-json-noto-1.2.0.tgz", f / "iconify-json-noto-1.3.0.tgz"),
        "and",
    ),
    "no tarball": (
        lambda f: (f / "iconify-json-noto-1.2.0.tgz").write_bytes(b"no"),
        "info.json of the package .* cannot",
    ),
    "cut off": (
        lambda f: (p := f / "iconify-json-noto-1.2.0.tgz").write_bytes(p.read_bytes()[:200]),
        "cannot be read",
    ),
    "not Iconify's": (
        lambda f: write(
            f, "@iconify-json/noto", "1.2.0", {"info.json": {}, "package.json": {}, "icons.json": {}}
        ),
        "is no package of Iconify's",
    ),
    "a list": (
        lambda f: write(f, "@iconify-json/noto", "1.2.0", {"info.json": []}),
        "info.json holds a list",
    ),
    "no body": (
        lambda f: write(f, "@iconify-json/noto", "1.2.0", iconify("noto", {"thing-a": {}})),
        "is no package of Iconify's",
    ),
    "a broken SVG": (
        lambda f: write(f, "@iconify-json/noto", "1.2.0", iconify("noto", {"thing-a": {"body": "<g>"}})),
        "the icon thing-a cannot be drawn",
    ),
    "not emojibase": (
        lambda f: write(f, LABELS.package, "17.0.0", labels([{"group": 1}])),
        "not emojibase's",
    ),
    "other emoji": (
        lambda f: write(f, LABELS.package, "17.0.0", labels([])),
        "of 0 emoji none is in the packages",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_packages_are_one_sentence(fetched, tmp_path, case):
    spoil, message = BAD[case]
    spoil(fetched)
    with pytest.raises(InputError, match=message) as error:
        build(settings(fetched, tmp_path / "set"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "set").exists() and not list(tmp_path.glob(".set*"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"styles": ("notto",)}, "--styles notto: expected some of noto blob"),
        ({"styles": ()}, "expected some of"),
        ({"image_size": 4}, "--image-size 4"),
        ({"held_out": 0.9}, "--held-out 0.9"),
        ({"per_shard": 0}, "--per-shard 0"),
    ],
)
def test_bad_settings_are_one_sentence(fetched, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        build(settings(fetched, tmp_path / "set", **more))


def test_what_is_missing_is_named(fetched, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match=r"npm, which fetches @iconify-json/noto@.*, is not installed.*--packages"
    ):
        build(BuildStyles(tmp_path / "set", cache=tmp_path / "npm"))
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(
        InputError, match=r"resvg-py, which is not installed: pip install 'glide-toolkit\[emoji\]'"
    ):
        build(settings(fetched, tmp_path / "set"))


def test_npm_fetches_what_is_not_there_once(fetched, tmp_path, monkeypatch):
    """A program in npm's place: it copies the tarball, or fails."""
    style = style_packages.Style("noto", "@iconify-json/noto", "1.2.0")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/log\n/bin/cp {fetched}/iconify-json-noto-1.2.0.tgz "$5"\n'
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(npm.parent))
    for _ in range(2):
        assert (
            read_icons(style, find_package(style, None, tmp_path / "npm")).source
            == "@iconify-json/noto@1.2.0"
        )
    expected = f"pack --silent --ignore-scripts --pack-destination {tmp_path}/npm @iconify-json/noto@1.2.0\n"
    assert (tmp_path / "log").read_text() == expected
    npm.write_text("#!/bin/sh\necho 'npm error 404 not found' >&2\nexit 1\n")
    with pytest.raises(
        InputError, match=r"npm could not fetch @iconify-json/noto@1\.2\.0 \(npm error 404 not found\)"
    ):
        find_package(style, None, tmp_path / "elsewhere")


def joined(
    table: list, icons: dict, word: str = "noto", tmp: Path | None = None, **more
) -> dict[str, tuple[str, bool]]:
    """Names of the icons by labels."""
    write(tmp, STYLES[word].package, "1.0.0", iconify(word, icons, **more))
    write(tmp, LABELS.package, "17.0.0", labels(table))
    concepts = read_concepts(find_package(LABELS, tmp, tmp))
    found = join(concepts, read_icons(STYLES[word], find_package(STYLES[word], tmp, tmp)))
    return {c.label: (found[c.code].name, found[c.code].mirrored) for c in concepts if c.code in found}


def test_icons_are_found_by_code_then_by_their_own_names(tmp_path):
    table = [
        emoji(0x1F997, "cricket"),
        emoji(0x1F3CF, "cricket game"),
        emoji(0x1F346, "eggplant"),
        emoji(0x1F44B, "waving hand"),
        emoji(0x1F917, "smiling face with open hands"),
        emoji(0x1F449, "pointing right"),
        emoji(0x1F448, "pointing left"),
        emoji(0x2600, "sun"),
        emoji(0x1F600, "old picture"),
        emoji(0x1F1F3, "flag: Norway"),
    ]
    names = ("cricket-game", "AUBERGINE", "wave", "hugging-face", "pointing-left", "sun", "flag-for-norway")
    icons = {name: icon(name) for name in names} | {"old-picture": {**icon("o"), "hidden": True}}
    aliases = {
        "cricket": {"parent": "cricket-game"},
        "pointing-right": {"parent": "pointing-left", "hFlip": True},
    }
    found = joined(
        table, icons, tmp=tmp_path, chars={"1f917": "hugging-face", "2600-fe0f": "sun"}, aliases=aliases
    )
    assert found == {
        "cricket game": ("cricket-game", False),  # and not the insect
        "eggplant": ("AUBERGINE", False),  # its name in Unicode
        "waving hand": ("wave", False),  # a short code
        "smiling face with open hands": ("hugging-face", False),
        "pointing right": ("pointing-left", True),
        "pointing left": ("pointing-left", False),
        "sun": ("sun", False),
        "flag: Norway": ("flag-for-norway", False),
    }


def test_names_of_a_set_that_mean_other_emoji_are_listed(tmp_path):
    table = [
        emoji(0x1F44B, "waving hand"),
        emoji(0x1F30A, "water wave"),
        emoji(0x1F408, "cat"),
        emoji(0x1F431, "cat face"),
    ]
    icons = {name: icon(name) for name in ("wave", "waving", "cat", "catside")}
    found = joined(table, icons, "mozilla", tmp=tmp_path)
    assert {said: name for said, (name, _) in found.items()} == {
        "waving hand": "waving",
        "water wave": "wave",
        "cat": "catside",
        "cat face": "cat",
    }


@pytest.mark.parametrize(
    "body", ["<text>A</text>", '<image href="/etc/passwd"/>', '<use href="a.svg#b"/>', '<g fill="url(a)"/>']
)
def test_icons_that_are_more_than_shapes_are_left_out(tmp_path, body):
    assert joined([emoji(0x1F34E, "red apple")], {"red-apple": {"body": body}}, tmp=tmp_path) == {}


def test_an_icon_is_drawn_on_white_mirrored_and_in_the_middle():
    body = '<path fill="red" d="M0 0h2v2h-2z"/>'
    plain = np.asarray(draw(Icon("a", body, (0, 0, 4, 4), False), 8))
    assert (plain[:4, :4] == (255, 0, 0)).all() and (plain[4:] == 255).all() and (plain[:, 4:] == 255).all()
    assert np.array_equal(np.asarray(draw(Icon("a", body, (0, 0, 4, 4), True), 8)), plain[:, ::-1])
    wide = np.asarray(draw(Icon("a", body, (0, 0, 4, 2), False), 8))
    assert (wide[2:6, :4] == (255, 0, 0)).all() and (wide[:2] == 255).all() and (wide[6:] == 255).all()


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize("colours", [3, 256, 4000])
def test_no_pixel_is_lost(form, colours):
    pixels = np.random.default_rng(0).integers(0, 256, (colours, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels[np.arange(64 * 64) % colours].reshape(64, 64, 3))
    with Image.open(io.BytesIO(encode(picture, form))) as read:
        assert np.array_equal(np.asarray(read.convert("RGB")), np.asarray(picture))
        assert form == "webp" or read.mode == ("P" if colours <= 256 else "RGB")


def concept(text: str, group: int = 4, kind: str = "plain", tags: tuple[str, ...] = ()) -> Concept:
    return Concept("1f34e", text, tags, group, kind)


LABELLED = {
    "red apple": "a red apple",
    "octopus": "an octopus",
    "unicorn": "a unicorn",
    "hourglass done": "an hourglass done",
    "grapes": "grapes",
    "men with bunny ears": "men with bunny ears",
    "face with closed eyes": "a face with closed eyes",
    "keycap: 1": "keycap 1",
    "piñata": "a pinata",
    "woman\N{RIGHT SINGLE QUOTATION MARK}s hat": "a woman's hat",
    "man: bald": "a bald man",
    "person running: facing right": "a person running facing right",
    "person: light skin tone, beard": "a person with light skin tone and beard",
    "family: man, woman, boy": "a family of man, woman and boy",
    "kiss: man, man, dark skin tone": "a kiss of man and man with dark skin tone",
}


@pytest.mark.parametrize("text", LABELLED)
def test_labels_become_plain_words(text):
    assert with_article(concept(text)) == LABELLED[text]


def test_symbols_and_flags():
    assert with_article(concept("Japanese “here” button", group=8)) == "japanese here button"
    norway = concept("flag: Norway", 9, "flag")
    assert (label(norway), with_article(norway)) == ("flag of norway", "the flag of norway")


def test_captions_say_concept_and_style_and_all_tags_somewhere():
    apple = concept("red apple", tags=("apple", "diet", "food", "fruit", "health", "red", "ripe"))
    said = captions(apple, "twemoji")
    assert said[:3] == [
        "a red apple, twemoji style",
        "red apple, twemoji style",
        "a red apple in twemoji style",
    ]
    assert len(said) == 5 == len(set(said)) and captions(apple, "twemoji") == said
    assert all("red apple" in one and "twemoji style" in one for one in said)
    told = {word for style in STYLES for one in captions(apple, style)[3:] for word in one.split(", ")[1:-1]}
    assert told == {"diet", "food", "fruit", "health", "ripe"}  # those that the label does not say


def test_code_points_are_written_in_one_way():
    assert plain_code("0023-FE0F-20E3") == "23-20e3" and plain_code("1F468-200D-1F4BB") == "1f468-200d-1f4bb"
