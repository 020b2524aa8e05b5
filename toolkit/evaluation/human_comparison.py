"""The plan of a comparison by people: which two pictures stand side by side, blind, and the key that tells them apart.

Each pair of models is compared on every caption once, as in GLIDE's tables (2112.10741). Among these stand catch
trials, whose answer is known: a picture against a damaged copy of itself, and a picture of the caption against one of
another caption.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from glide.utils.errors import InputError
from glide.utils.json_files import as_table
from glide.utils.printable import beginning

REAL, FITS = "real", "fits"
QUESTIONS = {REAL: "Which looks more real?", FITS: "Which fits the caption better?"}
"""As GLIDE asked them: photorealism, and similarity to the caption."""
PAIR, DAMAGED, WRONG_CAPTION = "pair", "damaged", "wrong caption"
CATCH = {DAMAGED: REAL, WRONG_CAPTION: FITS}
"""Kinds of catch trials, each with the question whose answer is known."""
FORMAT = "glide comparison key"
VERSION = 1


@dataclass(frozen=True)
class Picture:
    """A picture of the page."""

    id: str
    """Opaque: it says nothing of model or name to who does not have the key."""
    model: str
    name: str
    """That of its file without ending, which the pictures of one caption share."""
    damaged: bool = False


@dataclass(frozen=True)
class Trial:
    """Two pictures side by side."""

    id: str
    left: Picture
    right: Picture
    name: str
    caption: str
    """Empty where there are no captions."""
    kind: str = PAIR
    expected: str = ""
    """Catch trials: the id of the picture that has to be chosen."""

    @property
    def models(self) -> tuple[str, str]:
        return self.left.model, self.right.model


@dataclass(frozen=True)
class Comparison:
    """A comparison of models on the same captions. Its key file holds all of it."""

    id: str
    seed: int
    models: tuple[str, ...]
    questions: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All pictures that are shown, by id: an order that says nothing of their models."""
        shown = {one.id: one for trial in self.trials for one in (trial.left, trial.right)}
        return [shown[name] for name in sorted(shown)]

    def key(self) -> dict[str, Any]:
        """The key, JSON-able."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}


def plan(
    models: Sequence[str],
    names: Sequence[str],
    captions: Mapping[str, str],
    seed: int,
    catch_trials: int,
    digest: str = "",
) -> Comparison:
    """Plan a comparison: all pairs of models on all names, in random order, either model as often on the left.

    models: at least 2. names: of the pictures. captions: by name; empty for none, which leaves out the question about
    them. seed: of the order, the sides and the ids. catch_trials: their number. digest: of the pictures' bytes, so that
    a comparison of others has another id.
    """
    rng = np.random.default_rng((seed, 0xC0517A))
    texts = [f"{name}\0{captions.get(name, '')}" for name in names]
    ident = _hashed(seed, "comparison", *models, *texts, digest)
    found: list[Trial] = []
    for first, second in combinations(models, 2):
        for name, swapped in zip(names, _balanced(len(names), rng), strict=True):
            sides = [_picture(seed, model, name) for model in (first, second)]
            left, right = sides[::-1] if swapped else sides
            found.append(_trial(seed, left, right, name, captions))
    found += _catch(models, names, captions, seed, catch_trials, rng)
    order = rng.permutation(len(found)).tolist()
    questions = tuple(QUESTIONS) if captions else (REAL,)
    return Comparison(ident, seed, tuple(models), questions, tuple(found[i] for i in order))


def _catch(
    models: Sequence[str],
    names: Sequence[str],
    captions: Mapping[str, str],
    seed: int,
    count: int,
    rng: np.random.Generator,
) -> Iterator[Trial]:
    """Catch trials of both kinds, the right answer as often on either side, models in turn.

    The picture of another caption is of a random model: so who recognises the trial learns of no two pictures whether
    they are of one model.
    """
    several = len(set(captions.values())) > 1
    turn = rng.permutation(len(models)).tolist()
    sides = _balanced(count, rng)
    deck: list[str] = []
    seen: set[str] = set()
    for attempt in range(10 * count):  # a small set repeats itself
        if len(seen) == count:
            return
        if not deck:
            deck = [names[i] for i in rng.permutation(len(names)).tolist()]
        i, name = len(seen), deck.pop()
        kind = WRONG_CAPTION if several and i % 2 else DAMAGED
        model = models[turn[attempt // 2 % len(models)]]
        right = _picture(seed, model, name)
        if kind == DAMAGED:
            wrong = _picture(seed, model, name, damaged=True)
        else:
            other_model = models[int(rng.integers(len(models)))]
            wrong = _picture(seed, other_model, _unlike(name, names, captions, rng))
        left, other = (wrong, right) if sides[i] else (right, wrong)
        trial = _trial(seed, left, other, name, captions, kind, right.id)
        if trial.id not in seen:
            seen.add(trial.id)
            yield trial


def _unlike(name: str, names: Sequence[str], captions: Mapping[str, str], rng: np.random.Generator) -> str:
    """The name whose caption shares the smallest part of its words with that of `name`."""
    words = set(captions[name].casefold().split())
    others = [one for one in names if captions[one] != captions[name]]
    sets = [set(captions[one].casefold().split()) for one in others]
    shared = np.array([len(words & one) / max(len(words | one), 1) for one in sets])
    return others[int(rng.choice(np.flatnonzero(shared == shared.min())))]


def _balanced(count: int, rng: np.random.Generator) -> list[bool]:
    """`count` truth values in random order, half of them true; of an odd number one more or less."""
    values = np.arange(count) % 2 == rng.integers(2)
    return [bool(value) for value in rng.permutation(values)]


def _picture(seed: int, model: str, name: str, damaged: bool = False) -> Picture:
    return Picture(_hashed(seed, "picture", model, name, str(damaged)), model, name, damaged)


def _trial(
    seed: int,
    left: Picture,
    right: Picture,
    name: str,
    captions: Mapping[str, str],
    kind: str = PAIR,
    expected: str = "",
) -> Trial:
    ident = _hashed(seed, "trial", *sorted((left.id, right.id)), kind)
    return Trial(ident, left, right, name, captions.get(name, ""), kind, expected)


def _hashed(seed: int, *words: str) -> str:
    """16 hexadecimal digits. Who does not know the seed cannot compute them from guessed words."""
    text = "\0".join((str(seed), *words)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:16]


def read_key(value: Any, file: str) -> Comparison:
    """The comparison of a key file's JSON. InputError, in one sentence, for anything else."""
    table = as_table(value, file)
    if table.get("format") != FORMAT or table.get("version") != VERSION:
        got = beginning(repr(table.get("format")), 60)
        raise InputError(
            f"{file} holds {got}, expected the key of a comparison (PAGE.key.json): give the file beside its page"
        )
    try:
        trials = tuple(_read_trial(one) for one in table["trials"])
        found = Comparison(
            _text(table["id"]),
            int(table["seed"]),
            tuple(_text(one) for one in table["models"]),
            tuple(_text(one) for one in table["questions"]),
            trials,
        )
        unique = len({trial.id for trial in trials}) == len(trials) > 0
        known = all(model in found.models for trial in trials for model in trial.models)
        valid = unique and known and set(found.questions) <= set(QUESTIONS)
        valid = valid and len(set(found.models)) == len(found.models) > 1
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(file) from error
    if not valid:
        raise _damaged(file)
    return found


def _read_trial(value: Any) -> Trial:
    sides = [
        Picture(_text(one["id"]), _text(one["model"]), _text(one["name"]), bool(one["damaged"]))
        for one in (value["left"], value["right"])
    ]
    texts = (_text(value[name]) for name in ("name", "caption", "kind", "expected"))
    trial = Trial(_text(value["id"]), sides[0], sides[1], *texts)
    if trial.kind not in (PAIR, *CATCH) or sides[0].id == sides[1].id:
        raise ValueError
    if trial.kind == PAIR and sides[0].model == sides[1].model:
        raise ValueError
    if (trial.kind in CATCH) != (trial.expected in (sides[0].id, sides[1].id)):
        raise ValueError
    return trial


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _damaged(file: str) -> InputError:
    return InputError(f"{file} is a damaged key, expected it as it was written with its page: give that file")
