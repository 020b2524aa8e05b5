"""The benchmark of the server: it starts one, asks it, and stops it."""

from pathlib import Path

import pytest

from benchmarks.serve import Serve, measure


@pytest.mark.slow
def test_it_measures_a_server(text_folder: Path) -> None:
    pytest.importorskip("uvicorn")
    args = Serve(str(text_folder), steps=2, dtype="float32", pictures=4, clients=2, messages=6)
    lines = list(measure(args))
    assert lines[0].startswith("page: ") and "the same bytes" in lines[3]
    assert any(line.startswith("6 malformed requests: {") and "500" not in line for line in lines)
    assert lines[-1].startswith("one after the other: 2 clients, 12 pictures: ")
