"""The parts of the page of an evaluation: sets, figures, memorisation, the best and the worst pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation import image_report as html
from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.comparison import Comparison, Sets
from toolkit.evaluation.extraction import Extracted
from toolkit.evaluation.image_report import Shown
from toolkit.evaluation.memorisation import Memorisation
from toolkit.evaluation.picture_sets import PictureSet

GENERATED, REAL = "#c2410c", "#1d4ed8"
"""Colours of the sets in plots."""


def parts(sets: Sets, found: Sequence[Comparison], shown: int) -> list[str]:
    """HTML of everything. shown: pictures of each kind at most."""
    first = found[0]
    named = (("generated", first.generated), ("data", first.data), ("held out", first.held_out))
    rows = [(name, _described(one)) for name, one in named if one is not None]
    page = [html.facts(rows)]
    for one in found:
        page.append(html.heading(f"In the features of {one.features.name}"))
        page += [html.paragraph(text, "warning") for text in one.warnings]
        page.append(html.figure_table(one.figures))
        if one.subsets:
            s = one.subsets
            page.append(
                html.paragraph(
                    f"Kernel distance over {s['subsets']:.0f} subsets of {s['size']:.0f} pictures: "
                    f"{s['mean']:.4g}, deviation {s['deviation']:.2g}."
                )
            )
        if one.copies is not None and one.data is not None and sets.data is not None:
            page += _memorisation(sets, one, one.copies, one.data, sets.data, shown)
        if one.realism is not None:
            page += _extremes(sets, one, one.realism, shown)
        if one.clip_scores is not None:
            page += _captioned(sets, one, one.clip_scores, shown)
    return page


def _described(one: Extracted) -> str:
    sizes = sorted(one.sizes.items(), key=lambda item: -item[1])[:3]
    text = f"{one.name}: {len(one)} pictures, " + ", ".join(f"{n} of {w}x{h}" for (w, h), n in sizes)
    return text + (f"; {len(one.broken)} broken ones left out" if one.broken else "")


def _memorisation(
    sets: Sets, one: Comparison, copies: Memorisation, data: Extracted, training: PictureSet, shown: int
) -> list[str]:
    said = "Memorisation is found" if copies.found else "No memorisation is found"
    text = (
        f"{said}: {_percent(copies.near)} of the generated pictures are nearer to a training picture than 95% of the "
        f"held-out pictures are; of new pictures 5% are. A generated picture is nearer than a held-out one with the "
        f"probability {copies.nearer}; of new pictures it is 0.5."
    )
    found = [
        html.heading("Memorisation", 3),
        html.paragraph(text, "found" if copies.found else ""),
        html.histogram(
            "Distance to the nearest training picture",
            [
                ("generated", GENERATED, copies.distances[:, 0]),
                ("held out", REAL, copies.held_out_distances),
            ],
            copies.limit,
        ),
    ]
    if shown:
        found.append(
            html.paragraph(
                "Generated pictures nearest to the training pictures, each before its nearest ones:"
            )
        )
    for row in np.argsort(copies.distances[:, 0], kind="stable")[
        : max(1, shown // 2) if shown else 0
    ].tolist():
        row_of = [_shown(sets.generated, one.generated, row, "generated")]
        for distance, near in zip(copies.distances[row], copies.rows[row].tolist(), strict=True):
            row_of.append(_shown(training, data, near, f"{distance:.3g} away"))
        found.append(html.pictures(row_of))
    return found


def _extremes(sets: Sets, one: Comparison, realism: NDArray[np.float64], shown: int) -> list[str]:
    order = np.argsort(-realism, kind="stable").tolist()
    found = [html.heading("Best and worst pictures", 3)]
    found.append(
        html.histogram(
            "Realism (1 or more: on the manifold of the data)",
            [("generated", GENERATED, np.minimum(realism, 3))],
            1.0,
        )
    )
    for text, rows in (("Highest realism:", order[:shown]), ("Lowest realism:", order[::-1][:shown])):
        found.append(html.paragraph(text))
        found.append(
            html.pictures(
                [_shown(sets.generated, one.generated, row, f"realism {realism[row]:.3g}") for row in rows]
            )
        )
    return found


def _captioned(sets: Sets, one: Comparison, scores: NDArray[np.float64], shown: int) -> list[str]:
    order = np.argsort(scores, kind="stable").tolist()
    found = [html.heading("Captions that fit worst and best", 3)]
    for rows in (order[:shown], order[::-1][:shown]):
        texts = [f"{scores[row]:.3g}: {sets.generated.caption(one.generated.places[row])}" for row in rows]
        found.append(
            html.pictures(
                [
                    _shown(sets.generated, one.generated, row, text)
                    for row, text in zip(rows, texts, strict=True)
                ]
            )
        )
    return found


def _shown(pictures: PictureSet, found: Extracted, row: int, text: str) -> Shown:
    picture = pictures[found.places[row]]
    return Shown(picture.pixels(), f"{text}: {picture.name}"[:200])


def _percent(one: Estimate) -> str:
    between = "" if one.low is None or one.high is None else f" ({one.low:.1%} to {one.high:.1%})"
    return f"{one.value:.1%}{between}"
