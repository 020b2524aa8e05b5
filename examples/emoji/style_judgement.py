"""Figures of pictures drawn for pairs of a concept and a style, beside those of the true pictures of the pairs.

Shape letters: N pictures, M training pictures, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

from linear_probe import LinearProbe, top
from torch import Tensor

from toolkit.evaluation.bootstrap import RESAMPLES, Estimate, share_of
from toolkit.evaluation.memorisation import memorisation
from toolkit.evaluation.mmd import cubic, mmd2_estimate

TOP = 5


@dataclass(frozen=True)
class Figure:
    """A figure of the drawn pictures, and of the true ones where it says something of them."""

    name: str
    drawn: Estimate
    true: Estimate | None


@dataclass(frozen=True)
class Judgement:
    """figures; and of each drawn picture the likeliest concept and style and the nearest training picture, [N] each."""

    figures: list[Figure]
    concept: Tensor
    style: Tensor
    nearest: Tensor


def judge(
    concepts: LinearProbe,
    styles: LinearProbe,
    drawn: Tensor,
    true: Tensor,
    training: Tensor,
    labels: tuple[Tensor, Tensor],
) -> Judgement:
    """Judge features of drawn pictures [N,F] beside the true ones [N,F]; training: [M,F].

    labels: the concept and the style that each picture was to show, [N] each.
    """
    concept, style = labels

    def right(probe: LinearProbe, wanted: Tensor, count: int) -> tuple[Estimate, Estimate]:
        shares = [int(top(probe.logits(one), wanted, count).sum()) for one in (drawn, true)]
        return share_of(shares[0], len(drawn)), share_of(shares[1], len(true))

    distance = mmd2_estimate(drawn.numpy(), true.numpy(), cubic, True, RESAMPLES)
    copies = memorisation(drawn.numpy(), training.numpy(), true.numpy())
    figures = [
        Figure("style right", *right(styles, style, 1)),
        Figure("concept right", *right(concepts, concept, 1)),
        Figure(f"concept among the likeliest {TOP}", *right(concepts, concept, TOP)),
        Figure("kernel distance from the true pictures", distance, None),
        Figure("nearer to a training picture than 95% of the true ones", copies.near, Estimate(0.05)),
        Figure("probability of being nearer to one than a true picture", copies.nearer, Estimate(0.5)),
    ]
    return Judgement(
        figures,
        concepts.logits(drawn).argmax(1),
        styles.logits(drawn).argmax(1),
        Tensor(copies.rows[:, 0]).long(),
    )


def table(found: Judgement) -> str:
    """The figures as a Markdown table."""
    lines = ["| figure | drawn | true pictures |", "|---|---|---|"]
    for one in found.figures:
        share = one.name != "kernel distance from the true pictures"
        texts = ["" if value is None else _text(value, share) for value in (one.drawn, one.true)]
        lines.append(f"| {one.name} | {texts[0]} | {texts[1]} |")
    return "\n".join(lines)


def _text(value: Estimate, share: bool) -> str:
    if not share:
        return str(value)
    around = "" if value.low is None or value.high is None else f" ({value.low:.1%} to {value.high:.1%})"
    return f"{value.value:.1%}{around}"
