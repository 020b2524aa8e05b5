"""The emoji, by emojibase's labels, and the icon of each in every style.

Some packages say the code points of their icons. Others have names only, after one version or another of Unicode: an
icon is then found by the emoji's label, by the name that a package with code points has for it, by its character's name
in Unicode, or by a short code of chat programs, in this order; hyphens do not count. Of emoji that a set draws alike
(families, in some) the first has the picture: the others look the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from style_packages import Icon, IconSet, Package, plain_code

from glide.utils.errors import InputError, one_line

Kind = Literal["plain", "skin", "flag"]
COMPONENTS, FLAGS = 2, 9  # emojibase's groups: colours of skin and hair alone, and flags
SHORT_CODES = ("cldr", "emojibase", "github", "emojibase-legacy")
LEAST = 3  # letters of a short code: "m", "o2" and "+1" are other things' names

# names that mean another emoji than the rules below find, or that they find none for: "name: label", "-" for none
MEANT = {"@iconify-json/fxemoji": Path(__file__).with_name("mozilla.txt")}


@dataclass(frozen=True)
class Concept:
    """An emoji, whatever the style."""

    code: str
    """Its code points, as `plain_code` writes them."""
    label: str
    """Emojibase's label, as in "waving hand: light skin tone"."""
    tags: tuple[str, ...]
    group: int
    kind: Kind
    short_codes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Its name in packages that know its code points, as in "red-apple"."""


def read_concepts(package: Package) -> list[Concept]:
    """All emoji of emojibase-data in the order of its file, components left out. InputError for another package."""
    short: dict[str, list[str]] = {}
    for source in SHORT_CODES:
        for code, said in package.table(f"en/shortcodes/{source}.json").items():
            short.setdefault(plain_code(code), []).extend([said] if isinstance(said, str) else said)
    found: list[Concept] = []
    try:
        for row in package.value("en/data.json"):
            if row.get("group") in (None, COMPONENTS):
                continue
            kind: Kind = "flag" if row["group"] == FLAGS else "plain"
            found.append(_concept(row, row, kind, short))
            found += [_concept(skin, row, "skin", short) for skin in row.get("skins", ())]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{package.path}: en/data.json is not emojibase's as expected ({type(error).__name__}: {one_line(error)}): "
            "fetch emojibase-data again"
        ) from error
    return found


def _concept(
    row: Mapping[str, Any], parent: Mapping[str, Any], kind: Kind, short: dict[str, list[str]]
) -> Concept:
    code = plain_code(row["hexcode"])
    tags = tuple(str(tag) for tag in row.get("tags", parent.get("tags", ())))
    return Concept(code, str(row["label"]), tags, int(row["group"]), kind, tuple(short.get(code, ())))


def with_names(concepts: Iterable[Concept], sets: Iterable[IconSet]) -> list[Concept]:
    """The concepts with the names that the sets give their code points."""
    every = list(sets)
    found = []
    for concept in concepts:
        names = (icons.by_code.get(concept.code) for icons in every)
        found.append(replace(concept, names=tuple(dict.fromkeys(name for name in names if name))))
    return found


def join(concepts: Sequence[Concept], icons: IconSet) -> dict[str, Icon]:
    """The icon of each concept that the set has, by the concept's code; each drawing once."""
    by_name: dict[str, Icon] = {}
    for name, icon in sorted(icons.icons.items()):
        by_name.setdefault(_key(name), icon)
    found: dict[str, Icon] = {}
    taken: set[tuple[str, bool]] = set()  # drawings, and whether they are mirrored

    def take(concept: Concept, icon: Icon | None) -> None:
        if icon is not None and concept.code not in found and (icon.body, icon.mirrored) not in taken:
            found[concept.code] = icon
            taken.add((icon.body, icon.mirrored))

    for concept in concepts:
        take(concept, icons.icons.get(icons.by_code.get(concept.code, "")))
    codes = {concept.label: concept.code for concept in concepts}
    for name, said in _meant(icons.style.package):
        listed = icons.icons.get(name)
        if listed is not None and said in codes:
            found[codes[said]] = listed
        if listed is not None:
            taken.add((listed.body, False))
    for names in zip(*(_names(concept) for concept in concepts), strict=True):
        # a name that two emoji have at one level says nothing
        counts = Counter(key for keys in names for key in keys)
        keyed = [
            (c, key) for c, keys in zip(concepts, names, strict=True) for key in keys if counts[key] == 1
        ]
        # an icon's other names are older: where one is another emoji's by now, its own name decides
        for own in (True, False):
            for concept, key in keyed:
                named = by_name.get(key)
                if named is not None and (_key(named.name) == key or not own):
                    take(concept, named)
    return found


def _meant(package: str) -> list[tuple[str, str]]:
    lines = MEANT[package].read_text("utf-8").splitlines() if package in MEANT else []
    return [(name, said) for name, _, said in (line.partition(": ") for line in lines)]


def _names(concept: Concept) -> Iterator[list[str]]:
    """Keys of the names of a concept, the surest first."""
    unicode_name = unicodedata.name(chr(int(concept.code, 16)), "") if "-" not in concept.code else ""
    short_codes = [code for code in concept.short_codes if sum(map(str.isalpha, code)) >= LEAST]
    for names in ([concept.label], concept.names, [unicode_name], short_codes):
        yield sorted({_key(name) for name in names} - {""})


def _key(name: str) -> str:
    """Letters and digits alone, in lower case; "flag-for-norway" is "flag-norway"."""
    plain = re.sub("^flag-for-(flag-)?", "flag-", ascii_letters(name).lower())
    return re.sub("[^a-z0-9]", "", plain)


def ascii_letters(text: str) -> str:
    """Letters without accents, and plain apostrophes."""
    parts = unicodedata.normalize("NFKD", text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return "".join(part for part in parts if not unicodedata.combining(part))
