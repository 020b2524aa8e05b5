"""Jobs as the one thread draws them: the bytes of the scripts, stop, cancel, previews, failures."""

import io
from collections.abc import Container
from itertools import pairwise
from pathlib import Path
from typing import Any

import inpaint as inpaint_script  # scripts/inpaint.py
import numpy as np
import pytest
import sample as sample_script  # scripts/sample.py
from PIL import Image

from glide.utils.images import recipe_in
from support import scripts
from support.web import drawn, files_of, noise, pixels_of, png, stored, worker_of
from toolkit.web.draw_request import read_request
from toolkit.web.jobs import Job
from toolkit.web.previews import PreviewBudget
from toolkit.web.together import Together
from toolkit.web.worker import Worker, key_of

FORM = {"caption": "a red circle", "steps": 3, "seed": 5}


@pytest.fixture(scope="module")
def worker(text_folder: Path) -> Worker:
    return worker_of(text_folder)


@pytest.fixture(scope="module")
def filling(filler_folder: Path) -> Worker:
    return worker_of(filler_folder)


def sampled(folder: Path, out: Path, *flags: object) -> list[bytes]:
    """The files of scripts/sample.py."""
    argv = ("--model", folder, "--device", "cpu", "--dtype", "float32", "--out", out, *flags)
    assert scripts.call(sample_script, *argv) == 0
    return [path.read_bytes() for path in sorted(out.glob("0*.png"))]


def test_the_files_are_those_of_the_script(worker: Worker, text_folder: Path, tmp_path: Path) -> None:
    job = drawn(
        worker, **FORM, count=3, guidance=["cfg:2", "pag:1@20-80"], negative="a blue square", sampler="euler"
    )
    flags = ("--prompt", FORM["caption"], "--steps", 3, "--seed", 5, "--num-samples", 3, "--sampler", "euler")
    flags += ("--guidance", "cfg:2", "--guidance", "pag:1@20-80", "--negative", "a blue square")
    assert files_of(worker, job) == sampled(text_folder, tmp_path, *flags)


def test_the_defaults_are_those_of_the_script(worker: Worker, text_folder: Path, tmp_path: Path) -> None:
    job = drawn(worker, caption="a red circle", seed="7")
    assert files_of(worker, job) == sampled(text_folder, tmp_path, "--prompt", "a red circle", "--seed", 7)


def test_classes_are_drawn_by_name(class_folder: Path, tmp_path: Path) -> None:
    worker = worker_of(class_folder)
    mine = files_of(worker, drawn(worker, label="tench", steps=2, seed=3))
    assert mine == sampled(class_folder, tmp_path, "--label", "tench", "--steps", 2, "--seed", 3)
    assert recipe_in(mine[0], "file")["class"] == "tench"


def test_like_repeats_a_picture_of_the_page(worker: Worker, text_folder: Path, tmp_path: Path) -> None:
    file = files_of(worker, drawn(worker, **FORM, count=4))[2]
    (tmp_path / "one.png").write_bytes(file)
    flags = ("--like", tmp_path / "one.png", "--trust-recipe")
    assert sampled(text_folder, tmp_path / "again", *flags) == [file]


def test_a_recipes_call_and_place_repeat_its_picture(worker: Worker) -> None:
    files = files_of(worker, drawn(worker, **FORM, count=4))
    recipe = recipe_in(files[2], "file")
    form = FORM | {"seed": recipe["seed"], "call_size": recipe["call_size"], "place": recipe["place"]}
    assert files_of(worker, drawn(worker, **form)) == [files[2]]


def test_a_picture_to_begin_with(worker: Worker, text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(photo := png(noise()))
    job = drawn(worker, **FORM, image=stored(worker, photo), strength=0.5)
    (file,) = sampled(
        text_folder, tmp_path / "out", "--prompt", FORM["caption"], "--steps", 3, "--seed", 5, "--strength", 0.5,
        "--init-image", tmp_path / "photo.png",
    )  # fmt: skip
    (mine,) = files_of(worker, job)
    assert np.array_equal(pixels_of(mine), pixels_of(file))
    assert recipe_in(mine, "page")["init_sha256"] == recipe_in(file, "script")["init_sha256"]


def half(side: int = 24) -> Any:
    """A mask, white in its left half."""
    mask = np.zeros((side, side), np.uint8)
    mask[:, : side // 2] = 255
    return mask


def test_an_edit_is_that_of_the_script_and_changes_nothing_outside(
    filling: Worker, filler_folder: Path, tmp_path: Path
) -> None:
    photo, mask = png(noise()), png(half())
    form = FORM | {"kind": "edit", "image": stored(filling, photo), "mask": stored(filling, mask, "mask.png")}
    (mine,) = files_of(filling, drawn(filling, **form))
    (tmp_path / "photo.png").write_bytes(photo)
    (tmp_path / "mask.png").write_bytes(mask)
    argv = [
        "--image",
        tmp_path / "photo.png",
        "--mask",
        tmp_path / "mask.png",
        "--prompt",
        FORM["caption"],
        "--seed",
        5,
    ]
    argv += ["--steps", 3, "--model", filler_folder, "--out", tmp_path / "out.png", "--device", "cpu"]
    assert scripts.call(inpaint_script, *argv, "--dtype", "float32") == 0
    assert np.array_equal(pixels_of(mine), pixels_of((tmp_path / "out.png").read_bytes()))
    assert np.array_equal(pixels_of(mine)[:, 12:], noise()[:, 12:])
    assert not np.array_equal(pixels_of(mine)[:, :12], noise()[:, :12])
    (tmp_path / "mine.png").write_bytes(mine)
    argv = ["--like", tmp_path / "mine.png", "--trust-recipe", "--out", tmp_path / "again.png"]
    argv += ["--image", tmp_path / "photo.png", "--mask", tmp_path / "mask.png"]
    assert scripts.call(inpaint_script, *argv) == 0
    assert np.array_equal(pixels_of(mine), pixels_of((tmp_path / "again.png").read_bytes()))


def test_a_picture_grows(filling: Worker) -> None:
    form = FORM | {"kind": "edit", "image": stored(filling, png(noise())), "extend": [4, 0, 8, 6]}
    (mine,) = files_of(filling, drawn(filling, **form))
    grown = pixels_of(mine)
    assert grown.shape == (30, 36, 3)
    assert np.array_equal(grown[:24, 4:28], noise())
    assert recipe_in(mine, "page")["extend"] == [4, 0, 8, 6]


def test_an_edit_begins_with_the_picture_below_strength_1(filling: Worker) -> None:
    ids = {"image": stored(filling, png(noise())), "mask": stored(filling, png(half()))}
    full, part = (
        files_of(filling, drawn(filling, **FORM, kind="edit", **ids, strength=s))[0] for s in (1.0, 0.4)
    )
    near = [np.abs(pixels_of(one)[:, :12].astype(int) - noise()[:, :12]).mean() for one in (part, full)]
    assert near[0] != near[1] and np.array_equal(pixels_of(part)[:, 12:], noise()[:, 12:])
    assert recipe_in(part, "page")["made_by"] == "the page"


def test_a_picture_is_enlarged(text_folder: Path, upsampler_folder: Path) -> None:
    worker = worker_of(text_folder, upsampler=str(upsampler_folder))
    small = files_of(worker, drawn(worker, **FORM))[0]
    (large,) = files_of(
        worker, drawn(worker, kind="enlarge", caption="a red circle", image=stored(worker, small), seed=5)
    )
    assert pixels_of(large).shape == (32, 32, 3)
    (both,) = files_of(worker, drawn(worker, **FORM, size=32))
    assert np.array_equal(pixels_of(both), pixels_of(large))
    refused = drawn(worker, **FORM, size=33)
    assert refused.state == "failed" and "expected 8 or 32" in refused.message


def asked_at(worker: Worker, step: int, what: str, **form: Any) -> Job:
    """A job that is asked to end once it has taken so many steps."""
    job = Job(read_request(FORM | form, worker.models.labels))
    worker.queue.put(job)
    job.watch(lambda: worker.queue.ask(job, what) if job.step == step else None)
    worker.draw(worker.queue.take(0) or job)
    return job


@pytest.mark.parametrize("step", [1, 4])
def test_a_job_is_cancelled_within_one_step(worker: Worker, step: int) -> None:
    job = asked_at(worker, step, "cancel", steps=10)
    assert (job.state, job.step, job.pictures) == ("cancelled", step, ())
    assert len(worker.queue) == 0


def test_stop_keeps_what_there_is(worker: Worker) -> None:
    job = asked_at(worker, 4, "stop", steps=10, count=2)
    assert (job.state, job.step) == ("stopped", 4)
    files = files_of(worker, job)
    assert len(files) == 2
    assert recipe_in(files[0], "file")["made_by"] == "the page, stopped after step 4 of 10"


def test_an_edit_stops_and_is_cancelled(filling: Worker) -> None:
    ids = {"image": stored(filling, png(noise())), "mask": stored(filling, png(half())), "kind": "edit"}
    stopped = asked_at(filling, 2, "stop", steps=6, **ids)
    assert (stopped.state, stopped.step) == ("stopped", 2)
    assert np.array_equal(pixels_of(files_of(filling, stopped)[0])[:, 12:], noise()[:, 12:])
    assert asked_at(filling, 2, "cancel", steps=6, **ids).state == "cancelled"


def test_a_defect_fails_one_job_and_no_other(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("toolkit.web.drawing.requests_of", lambda *of: 1 // 0)
        job = drawn(worker, **FORM)
    assert job.state == "failed" and job.message.startswith("the drawing failed (ZeroDivisionError")
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert drawn(worker, **FORM).state == "done"


def test_what_does_not_fit_is_one_sentence(worker: Worker) -> None:
    for form, said in (
        ({"label": "tench"}, "without classes"),
        ({"size": 64}, "no embedded upsampler"),
        ({"guidance": ["classifier:3"]}, "expected"),
        ({"image": "unknown"}, "does not hold any more"),
        ({"conditions": {"map": "unknown"}}, "does not hold any more"),
        ({"sampler": "plain"}, "expected ddim"),
    ):
        job = drawn(worker, **(FORM | form))
        assert job.state == "failed" and said in job.message and "\n" not in job.message, job.message


def test_warnings_are_notes_of_the_job(worker: Worker, capsys: pytest.CaptureFixture[str]) -> None:
    job = drawn(worker, **FORM | {"caption": "a red circle " * 20})
    assert (
        job.state == "done" and "longer than 12 tokens" in job.notes[0] and job.shown()["notes"] == job.notes
    )
    assert "warning: the caption is longer" in capsys.readouterr().err
    assert drawn(worker, **FORM).notes == []


def test_previews_change_no_bit_and_show_all_pictures(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PreviewBudget, "allows", lambda self: True)
    frames: list[tuple[int, int]] = []
    job = Job(read_request(FORM | {"count": 3, "steps": 6}, worker.models.labels))
    worker.queue.put(job)

    def look() -> None:
        if job.frame is not None:
            frames.append(Image.open(io.BytesIO(job.frame.data)).size)
            assert (job.frame.columns, job.frame.rows) == (2, 2)

    job.watch(look)
    worker.draw(worker.queue.take(0) or job)
    assert job.frame is None and set(frames) == {(16, 16)}
    quiet = drawn(worker, **FORM | {"count": 3, "steps": 6}, preview=False)
    assert files_of(worker, job) == files_of(worker, quiet)


def test_previews_keep_to_their_share_of_time() -> None:
    """By a clock that is moved by hand: 1000 steps of 10 ms, previews of 3 ms and then of 30."""
    time = [0.0]
    budget = PreviewBudget(now=lambda: time[0])
    made = []

    def preview() -> bytes:
        time[0] += 0.003 if time[0] < 5 else 0.03
        return b""

    for _ in range(1000):
        time[0] += 0.01
        if budget.allows():
            made.append(time[0])
            budget.make(preview)
    assert budget.spent <= 0.05 * time[0] + 0.03
    assert min(b - a for a, b in pairwise(made)) >= 0.125
    assert len([when for when in made if when < 5]) >= 35  # eight a second while they are cheap


def test_jobs_of_several_visitors_are_drawn_together_bit_for_bit(worker: Worker) -> None:
    seeds, alone = range(20, 28), []
    for seed in seeds:
        alone += files_of(worker, drawn(worker, **FORM | {"seed": seed}))
    jobs = [
        Job(one, key_of(one))
        for one in (read_request(FORM | {"seed": s}, worker.models.labels) for s in seeds)
    ]
    worker.queue.put(*jobs)
    assert worker.drawing is not None
    loops = worker.drawing.counts.calls
    while (job := worker.queue.take(0)) is not None:
        worker.draw(job)
    assert [files_of(worker, job)[0] for job in jobs] == alone
    assert worker.drawing.counts.calls - loops in (1, 2, 4, 8)  # as many as leave all bits as they are


@pytest.mark.parametrize(
    ("jobs", "exact", "calls"),
    [
        (8, range(9), [8]),
        (7, range(9), [7]),
        (11, range(9), [8, 3]),
        (7, (2, 4), [4, 2, 1]),
        (6, (2,), [2, 2, 2]),
        (3, (), [1, 1, 1]),
    ],
)
def test_jobs_fill_the_largest_call_that_changes_no_bit(
    text_folder: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, exact: Container[int], calls: list[int]
) -> None:
    worker, drawn_together = worker_of(text_folder), list[int]()
    monkeypatch.setattr(Together, "exact", lambda self, pipe, request, settings, rows: rows in exact)
    monkeypatch.setattr(Together, "_draw_call", lambda self, jobs, *rest: drawn_together.append(len(jobs)))
    request = read_request(FORM, worker.models.labels)
    assert worker.drawing is not None
    Together().draw([Job(request, key_of(request))] * jobs, worker.drawing)
    assert drawn_together == calls


def test_calls_of_a_fixed_size_depend_on_no_neighbour(text_folder: Path, tmp_path: Path) -> None:
    worker = worker_of(text_folder, fixed=4)
    alone = [files_of(worker, drawn(worker, True, **FORM | {"seed": seed}))[0] for seed in (8, 9, 12, 15)]
    asked = [read_request(FORM | {"seed": seed}, worker.models.labels) for seed in (8, 9, 12, 15)]
    jobs = [Job(one, key_of(one)) for one in asked]
    worker.queue.put(*jobs)
    assert worker.drawing is not None
    before = worker.drawing.counts.calls
    while (job := worker.queue.take(0)) is not None:
        worker.draw(job)
    assert worker.drawing.counts.calls - before == 2  # 8 and 12 want the same place
    assert [files_of(worker, job)[0] for job in jobs] == alone
    (tmp_path / "one.png").write_bytes(alone[3])
    flags = ("--like", tmp_path / "one.png", "--trust-recipe")
    assert sampled(text_folder, tmp_path / "again", *flags) == [alone[3]]
    assert recipe_in(alone[3], "file")["place"] == 3


def test_a_cancelled_job_leaves_those_beside_it(text_folder: Path) -> None:
    worker = worker_of(text_folder, fixed=2)
    asked = [read_request(FORM | {"seed": seed}, worker.models.labels) for seed in (0, 1)]
    jobs = [Job(one, key_of(one)) for one in asked]
    worker.queue.put(*jobs)
    jobs[0].watch(lambda: worker.queue.ask(jobs[0], "cancel") if jobs[0].step == 1 else None)
    worker.draw(worker.queue.take(0) or jobs[0])
    assert [job.state for job in jobs] == ["cancelled", "done"]
