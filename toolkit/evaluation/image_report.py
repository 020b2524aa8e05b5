"""One self-contained HTML page of an evaluation: tables, plots and pictures, with nothing to fetch and no script.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.image_evaluation import Figure

SIDE = 128
"""Pixels of a shown picture at most."""
LEAST = 64
"""Smaller ones are shown at a multiple of their size."""
BINS = 30
WIDTH, HEIGHT, MARGIN = 460, 200, 34
"""Of a plot."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .3em .9em; text-align: left }
tr { border-bottom: 1px solid #ddd } td.n { font-variant-numeric: tabular-nums }
figure { display: inline-block; margin: .3em; vertical-align: top; width: 132px; font-size: 11px; color: #555 }
figcaption { overflow-wrap: anywhere } img { image-rendering: pixelated } .row { margin: .6em 0 }
.warning { background: #fff5d6; padding: .5em .8em; margin: .4em 0 } .found { background: #ffe1dc }
""".strip()


@dataclass(frozen=True)
class Shown:
    """A picture on the page. pixels: uint8 [H,W,3]."""

    pixels: NDArray[np.uint8]
    text: str


def page(title: str, parts: Sequence[str]) -> str:
    """The whole page. title: plain text; parts: HTML of this module."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{html.escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """kind: "", "warning" or "found"."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """A table of names and values."""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>"


def figure_table(figures: Sequence[Figure]) -> str:
    """A row for each figure, with its interval and that of real pictures."""
    real = any(one.real is not None for one in figures)
    head = "<th>figure</th><th>better</th><th>generated</th><th>95% interval</th>"
    head += "<th>held-out real</th><th>95% interval</th>" if real else ""
    rows = []
    for one in figures:
        cells = f"<td>{html.escape(one.label)}</td><td>{one.better}</td>{_cells(one.generated)}"
        if real:
            cells += "<td></td><td></td>" if one.real is None else _cells(one.real)
        rows.append(f"<tr>{cells}</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _cells(one: Estimate) -> str:
    between = "" if one.low is None or one.high is None else f"{one.low:.4g} to {one.high:.4g}"
    return f'<td class="n">{one.value:.4g}</td><td class="n">{between}</td>'


def pictures(shown: Sequence[Shown]) -> str:
    """Pictures in a row, each with its text."""
    return f'<div class="row">{"".join(_picture(one) for one in shown)}</div>'


def _picture(one: Shown) -> str:
    return f'<figure><img src="{data_uri(one.pixels)}" alt=""><figcaption>{html.escape(one.text)}</figcaption></figure>'


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """A picture, uint8 [H,W,3], as a PNG in a data: URI, at most `SIDE` pixels large."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    largest = max(image.size)
    if largest > SIDE:
        scale = SIDE / largest
        image = image.resize(
            (max(1, round(image.width * scale)), max(1, round(image.height * scale))),
            Image.Resampling.LANCZOS,
        )
    elif largest < LEAST:
        times = SIDE // largest
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, format="PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def histogram(title: str, series: Sequence[tuple[str, str, NDArray]], mark: float | None = None) -> str:
    """Histograms of values [N] over one axis, as SVG. series: name, colour and values; mark: a line at this value."""
    every = np.concatenate([np.asarray(values, np.float64) for _, _, values in series])
    low, high = float(every.min()), float(every.max())
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = [np.histogram(values, edges)[0] / max(1, len(values)) for _, _, values in series]
    most = max(float(count.max()) for count in counts)
    step = (WIDTH - 2 * MARGIN) / BINS
    bars = []
    for (_, colour, _), count in zip(series, counts, strict=True):
        for i, share in enumerate(count):
            tall = (HEIGHT - 2 * MARGIN) * float(share) / most
            bars.append(
                f'<rect x="{MARGIN + i * step:.1f}" y="{HEIGHT - MARGIN - tall:.1f}" width="{step:.1f}" '
                f'height="{tall:.1f}" fill="{colour}" fill-opacity="0.5"/>'
            )
    if mark is not None and edges[0] <= mark <= edges[-1]:
        x = MARGIN + (mark - edges[0]) / (edges[-1] - edges[0]) * (WIDTH - 2 * MARGIN)
        bars.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#222"/>')
    texts = [_text(MARGIN, 16, title), _text(MARGIN, HEIGHT - 12, f"{edges[0]:.3g}")]
    texts.append(_text(WIDTH - MARGIN - 40, HEIGHT - 12, f"{edges[-1]:.3g}"))
    for i, (name, colour, _) in enumerate(series):
        texts.append(_text(WIDTH - MARGIN - 110, MARGIN + 12 + 15 * i, name, colour))
    return f'<svg width="{WIDTH}" height="{HEIGHT}" role="img">{"".join(bars + texts)}</svg>'


def _text(x: float, y: float, text: str, colour: str = "#222") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="12" fill="{colour}">{html.escape(text)}</text>'
