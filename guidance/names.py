"""Guidances by name: those built in, and those of other installed packages, found by their entry points.

Imports nothing heavy, so that `--help` lists them at once; what makes a guidance is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

from glide.utils.errors import InputError
from glide.utils.ranges import flag
from guidance.options import Options
from guidance.spec import EVERYWHERE, GuidanceSpec

GROUP = "glide.guidance"
FOR_ALL = frozenset({"rescale", "threshold"})
"""Options that belong to no guidance alone."""
READ_BY_RERANK = frozenset({"clip", "clip_vocab"})
"""Options of what picks the pictures that fit a caption best."""


@dataclass(frozen=True)
class GuidanceEntry:
    """A guidance that can be asked for by name."""

    entry: EntryPoint
    """Of a function (subject: guidance.registry.Subject, scale, interval) -> one or several guidances."""
    words: str
    scale: float = 1.0
    """Where none is given."""
    reads: frozenset[str] = frozenset()
    """Fields of `Options`."""
    captions: bool = False
    """Whether it reads captions, also those that the model itself does not take."""
    labels: bool = False
    """Whether it reads class labels, also those that the model itself does not take."""
    acts: tuple[float, float] | None = None
    """Its default interval, as shares of the training timesteps. None: all of them.
    """


def _built_in(
    name: str,
    words: str,
    scale: float,
    *reads: str,
    captions: bool = False,
    labels: bool = False,
    acts: tuple[float, float] | None = None,
) -> GuidanceEntry:
    entry = EntryPoint(name, f"guidance.makers:{name}", GROUP)
    return GuidanceEntry(entry, words, scale, frozenset(reads), captions, labels, acts)


BUILT_IN = {
    named.entry.name: named
    for named in (
        _built_in("none", "no guidance", 1.0),
        _built_in("cfg", "classifier-free guidance; scale 1 is none", 3.0, "negative"),
        _built_in(
            "apg",
            "the same, projected so that it saturates less; scale 1 is none",
            3.0,
            "negative",
            "apg_eta",
            "apg_norm",
            "apg_momentum",
        ),
        _built_in("auto", "away from the model --weak; scale 1 is none", 1.5, "weak"),
        _built_in("pag", "away from the model with perturbed attention; needs no caption", 2.0, "pag_layers"),
        # tau_1 and tau_2 of 2310.17347, which has 0.6 and 0.9: then too much of a picture's layout is drawn without its
        # caption, and no guidance leads back to it
        _built_in(
            "cads",
            "noise on the caption at the noisiest timesteps, for variety",
            0.1,
            "cads_mix",
            acts=(0.8, 1.0),
        ),
        # of the noisiest timesteps both know next to nothing, and a solver without noise keeps what they do there
        _built_in(
            "classifier",
            "by the noisy classifier --classifier, up to 0.6 of the timesteps",
            4.0,
            "classifier",
            labels=True,
            acts=(0.0, 0.6),
        ),
        _built_in(
            "clip",
            "by the CLIP --clip, up to 0.9 of the timesteps",
            2.0,
            "clip",
            "clip_sees",
            "clip_vocab",
            captions=True,
            acts=(0.0, 0.9),
        ),
    )
}
"""In the order in which messages name them."""


@cache
def known() -> dict[str, GuidanceEntry]:
    """All guidances by name. A package cannot take a built-in name."""
    found = dict(BUILT_IN)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        owner = entry.dist.name if entry.dist is not None else entry.value
        # who wrote it knows what it reads
        found.setdefault(
            entry.name, GuidanceEntry(entry, f"of the package {owner}", captions=True, labels=True)
        )
    return found


def named(name: str) -> GuidanceEntry:
    """InputError, naming all there are, where there is none of that name."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    if name not in known():
        raise InputError(f"got the guidance {name!r}, expected {' or '.join(known())}: choose one of these")
    return known()[name]


def interval_of(term: GuidanceSpec, steps: int) -> tuple[int, int]:
    """The first and last of `steps` training timesteps at which a guidance acts: its usual ones if none are given."""
    if term.interval is not None:
        return term.interval
    shares = named(term.name).acts
    return EVERYWHERE if shares is None else (round(shares[0] * steps), round(shares[1] * steps))


def listing() -> str:
    """For --help: a line for each, with its usual scale and what it is."""
    return "\n".join(
        name if entry.words == "no guidance" else f"{name}:{entry.scale:g}  {entry.words}"
        for name, entry in known().items()
    )


def read_by(terms: Sequence[GuidanceSpec]) -> frozenset[str]:
    """The options that a list of guidances reads, without those for all."""
    return frozenset[str]().union(*(named(term.name).reads for term in terms))


def check_read(terms: Sequence[GuidanceSpec], options: Options, also: frozenset[str] = frozenset()) -> None:
    """InputError for an option that is given, but that no guidance of the list reads.

    also: what is read by something else.
    """
    if any(term.name not in BUILT_IN for term in terms):
        return  # another package's may read what it likes
    unread = sorted(set(options.given()) - read_by(terms) - FOR_ALL - also)
    if unread:
        readers = " or ".join(
            f"--guidance {name}" for name, entry in BUILT_IN.items() if unread[0] in entry.reads
        )
        raise InputError(
            f"got {flag(unread[0])}, which belongs to a guidance that was not asked for, expected {readers}: add "
            "that one, or leave the flag out"
        )
