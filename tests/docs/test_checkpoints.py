"""docs/checkpoints.md: its table is the one of the published models."""

import re

from glide.checkpoints.cache import megabytes
from glide.checkpoints.published import MODELS
from support.paths import ROOT

PAGE = (ROOT / "docs/checkpoints.md").read_text("utf-8")


def test_the_table_has_every_published_model() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (`\w+\.pt`.*?) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == list(MODELS)
    for name, files, length, words in rows:
        model = MODELS[name]
        assert files == ", ".join(f"`{file.name}`" for file in model.weights) and words == model.words
        known = [file.length for file in model.weights]
        stated = f"{sum(map(int, filter(None, known))):,}"
        assert length == (stated if all(known) else f"about {megabytes(model.float32_bytes)}")
