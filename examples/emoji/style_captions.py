"""Captions of a picture: a concept's label, tags of it, and the style.

Of a red apple: ["a red apple, twemoji style", "red apple, twemoji style", ...].
"""

from __future__ import annotations

import hashlib

from style_concepts import Concept, ascii_letters

TAGS = 2  # in one caption
SYMBOLS = 8  # emojibase's group: their labels are inscriptions as often as things
JOINED = ("kiss", "couple with heart", "family")  # of several, who follow a colon
PLURALS = {"men", "women", "people", "children"}
NO_ARTICLE = {"bread", "rice", "sake", "sushi", "money", "ice", "fog", "fire", "camping", "bowling", "tennis"}
SINGULAR = ("ss", "us", "is", "os", "bus", "compass", "abacus")  # an s that is no plural's
SOUNDS_LIKE_YOU = ("uni", "ufo", "eu", "ewe", "one")


def captions(concept: Concept, style: str) -> list[str]:
    """Captions of a concept in a style, the plainest first; all say its label and the style.

    Tags are chosen by a hash of concept and style, so that each is in some caption.
    """
    said = label(concept)
    thing = with_article(concept)
    found = [f"{thing}, {style} style", f"{said}, {style} style", f"{thing} in {style} style"]
    words = set(said.split())
    tags = [tag for tag in map(_plain, concept.tags) if not set(tag.split()) <= words]
    tags.sort(key=lambda tag: hashlib.sha256(f"{concept.code}/{style}/{tag}".encode()).digest())
    for few in (tags[:TAGS], tags[TAGS : 2 * TAGS]):
        found += [", ".join([said, *few, f"{style} style"])] if few else []
    return list(dict.fromkeys(found))


def label(concept: Concept) -> str:
    """Emojibase's label as words alone: "waving hand with light skin tone", "flag of norway"."""
    head, _, rest = _plain(concept.label).partition(": ")
    if not rest:
        return head
    if head == "flag":
        return f"flag of {rest}"
    if head == "keycap":
        return f"keycap {rest}"
    parts = rest.split(", ")
    has = [part for part in parts if part.split()[-1] in ("tone", "hair", "beard")]
    others = [part for part in parts if part not in has]
    if head in JOINED and others:
        head = f"{head} of {_listed(others)}"
    else:
        before = [part for part in others if " " not in part]  # "bald"
        head = " ".join([*before, head, *(part for part in others if " " in part)])  # "facing right"
    return f"{head} with {_listed(has)}" if has else head


def with_article(concept: Concept) -> str:
    """The label with a or an, where it is a thing of which there is one."""
    said = label(concept)
    head = said.split(" with ")[0].split(" of ")[0].split(" in ")[0].split(" on ")[0].split()
    if concept.group == SYMBOLS or said.startswith("keycap"):
        return said
    if concept.kind == "flag" and said.startswith("flag of"):
        return f"the {said}"
    many = head[-1].endswith("s") and not head[-1].endswith(SINGULAR)
    if many or head[0] in PLURALS or head[-1] in PLURALS or head[-1] in NO_ARTICLE:
        return said
    vowel = said[0] in "aeiou" and not said.startswith(SOUNDS_LIKE_YOU)
    return f"{'an' if vowel or said.startswith('hour') else 'a'} {said}"


def _listed(parts: list[str]) -> str:
    """ "man, woman and boy"."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _plain(text: str) -> str:
    """In lower case, without accents and quotation marks."""
    bare = text.replace("“", "").replace("”", "").replace(" & ", " and ")
    return " ".join(ascii_letters(bare).lower().split())
