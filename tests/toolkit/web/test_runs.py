"""Runs that are watched: curves of the log, progress pictures by their steps, and nothing else of the folder."""

import json
from pathlib import Path

import numpy as np
import pytest

from glide.utils.errors import InputError
from support.web import png, serving, worker_of
from toolkit.web.runs import check_runs


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "samples").mkdir(parents=True)
    lines = [{"step": 10 * i, "loss": 1.0 / (i + 1), "memory_gib": 1.0} for i in range(1000)]
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 10', "utf-8"
    )
    (folder / "validation.jsonl").write_text('{"step": 100, "validation_loss": 0.5}\n', "utf-8")
    for step in (100, 2400):
        (folder / "samples" / f"{step:07d}.png").write_bytes(png(np.full((4, 4, 3), step % 256, np.uint8)))
    (folder / "samples/strip.png").write_bytes(b"not shown")
    return folder


def test_a_run_is_shown_as_it_is_now(run: Path, text_folder: Path) -> None:
    with serving(worker_of(text_folder), starts=False, runs=check_runs({"photos": str(run)})) as client:
        assert client.get("/api/about").json()["runs"] == ["photos"]
        found = client.get("/api/runs/photos").json()
        assert found["steps"] == [100, 2400] and set(found["curves"]) == {"loss", "held out: validation_loss"}
        loss = found["curves"]["loss"]
        assert len(loss) <= 400 and loss[-1][0] == 9990
        assert loss[0][1] == pytest.approx(np.mean([1.0, 1 / 2, 1 / 3]))
        answer = client.get("/api/runs/photos/2400")
        assert answer.content == (run / "samples/0002400.png").read_bytes()
        for path in (
            "/api/runs/photos/101",
            "/api/runs/other",
            "/api/runs/photos/strip",
            "/api/runs/photos/-1",
        ):
            assert client.get(path).status_code == 404, path
        (run / "log.jsonl").unlink()
        assert "no step yet" in client.get("/api/runs/photos").json()["note"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected the folder of a training"):
        check_runs({"x": str(tmp_path / "x")})
