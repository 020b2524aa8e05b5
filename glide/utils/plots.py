"""Plots by matplotlib, which is an optional extra."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glide.utils.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float = 8.0, height: float = 4.5) -> Figure:
    """An empty figure, in inches, without a window: draw on its `subplots()`, then `savefig`.

    InputError if matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "plots need matplotlib, which is not installed: pip install 'glide-toolkit[plot]', or ask for no plot"
        ) from None
    return Figure(figsize=(width, height), dpi=110, layout="constrained")
