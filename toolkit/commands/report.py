"""The report of a command: figures as JSON, in a file of their own."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from glide.utils.atomic_write import write_text
from glide.utils.file_locks import write_beside


def write_json(path: Path, figures: object, overwrite: bool) -> Path:
    """Write figures, and return the path: the next free name where another program has taken it meanwhile."""
    text = json.dumps(figures, indent=1, ensure_ascii=False) + "\n"
    return write_beside(path, partial(write_text, text=text, replace=overwrite))
