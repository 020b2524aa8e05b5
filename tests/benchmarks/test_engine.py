"""benchmarks/engine.py: what it computes, and every case of it at tiny size."""

import math
import mmap
import os
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import engine
from benchmarks.measure import peaks, startup, suite
from benchmarks.measure.machine import Clock, Memory, bytes_of, fresh, step_seconds
from benchmarks.measure.networks import CONFIGS
from benchmarks.measure.operators import kind_of
from benchmarks.measure.peaks import Peaks
from benchmarks.measure.plan import Plan
from benchmarks.measure.report import STEPS, Report, spread
from benchmarks.measure.results import Found, Measured, Note, Peak, Spent, Table
from benchmarks.measure.turns import Job, Race, Turns, alone, in_turn, steps_needed, turns
from benchmarks.measure.work import call_work
from glide.checkpoints.load import save_model
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer
from glide.utils.cli import parse
from glide.utils.errors import InputError
from support.benchmark_cases import TINY, InlineWorker, inline, of

CPU = torch.device("cpu")


# What is measured


def test_a_clock_tells_every_step() -> None:
    steps = iter(range(5))
    assert len(step_seconds(steps, CPU, 1)) == 3
    clock = Clock(CPU)
    clock.marks = [1.0, 3.0, 3.5]
    assert clock.seconds() == [2.0, 0.5]


def test_memory_of_drawing_is_told_apart_from_loading() -> None:
    megabytes = 2**20
    memory = Memory(CPU)
    with mmap.mmap(-1, 64 * megabytes) as large:  # given back, whatever the C library keeps
        for _ in range(64):
            large.write(bytes(megabytes))
    memory.loaded()
    small = torch.ones(16 * megabytes // 4)
    peak = memory.done()
    assert peak.loading >= peak.begun + 48 * megabytes
    if peak.drawing is None:
        pytest.skip("this system does not let a process begin its peak of memory anew")
    assert 8 * megabytes < peak.loading - peak.drawing
    assert bytes_of([nn.Linear(3, 2), nn.ModuleList()]) == 4 * 8
    del small


def test_a_fresh_process_is_another_one_and_its_end_is_noticed() -> None:
    assert fresh(os.getpid) != os.getpid()
    with pytest.raises(BrokenProcessPool):
        fresh(os._exit, 1)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> str:
    """In place of the embedded model, which inpaints, too: 16x16, untrained."""
    folder = tmp_path_factory.mktemp("models") / "embedded"
    config = replace(PRESETS["tiny"], inpaint=True)
    save_model(folder, Model(config, Tokenizer.train(captions_for_tokenizer(), 512, 24)))
    return str(folder)


@pytest.mark.slow
def test_every_case_at_tiny_size(embedded: str, upsampler_folder: Path) -> None:
    said: list[str] = []
    plan = replace(TINY, model=embedded, upsampler=str(upsampler_folder))
    report = suite.measure(plan, said.append, inline, InlineWorker)
    found = report.found
    assert not [one for one in found if isinstance(one, Note) and "failed" in one.text], said
    rows = {case: of(found, case, "here") for case in ("base", "upsampler", "embedded", "train")}
    assert {case: [row.batch for row in found] for case, found in rows.items()} == {
        "base": [1, 2],
        "upsampler": [1, 2],
        "embedded": [1, 2],
        "train": [2],
    }
    base, upsampler = CONFIGS["tiny"]["base"], CONFIGS["tiny"]["upsampler"]
    assert [row.work for row in rows["base"]] == [call_work(base, 2), call_work(base, 4)]  # guided
    assert [row.work for row in rows["upsampler"]] == [call_work(upsampler, 1), call_work(upsampler, 2)]
    assert rows["train"][0].work > 2 * call_work(PRESETS["tiny"], 2)
    for case in ("base", "upsampler"):  # the same network, which also encodes its caption there
        for row, mine in zip(of(found, case, "the original's way"), rows[case], strict=True):
            assert mine.work < row.work < 1.1 * mine.work
    assert all(row.seconds > 0 and row.weights > 0 for row in found if isinstance(row, Measured))
    whole = [one.what for one in found if isinstance(one, Spent)]
    default = "training step, --dtype auto (float32), batch 2"
    assert [what.partition(":")[0] for what in whole] == ["cascade", "cascade", default, "picture", "picture"]
    assert "calls of 8" in whole[0] and "calls of 1" in whole[1] and "64x64" in whole[3]
    assert re.search(r"\d\.\d\d times that of --dtype float32", text := report.markdown())
    assert list(report.peaks.convolution) == ["float32"]  # nothing that was not asked for
    titles = [one.title for one in found if isinstance(one, Table)]
    assert [title.split(",")[0] for title in titles] == [
        case for case in ("base", "upsampler", "embedded", "train") for _ in range(2)
    ]
    assert any("glide_text2im: not installed" in line for line in said)
    for part in ("3x3 convolution", "| base | the original's way |", "computed: 100 steps", "by block"):
        assert part in text


def test_a_model_without_an_upsampler_is_said_in_a_line(embedded: str) -> None:
    plan = replace(TINY, cases=("cascade",), model=embedded, upsampler="nowhere", profile=False)
    (note,) = suite.measure(plan, lambda line: None, inline, InlineWorker).found
    assert isinstance(note, Note) and "skipped, there is no model 'nowhere'" in note.text


@pytest.mark.slow
def test_a_failure_is_said_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: Plan, *args: Any) -> list[Found]:
        raise RuntimeError("out of memory\non a device")

    monkeypatch.setattr(suite, "draw_original", fail)
    plan = replace(TINY, cases=("base",), batch_sizes=(1,), beside=("original",), profile=False)
    found = suite.measure(plan, lambda line: None, inline, InlineWorker).found
    assert [type(one) for one in found] == [Measured, Note]
    assert found[1] == Note(
        "base, the original's way, batch 1: failed, RuntimeError: out of memory on a device"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of diffusers and what it imports
def test_diffusers_does_the_same_work() -> None:
    pytest.importorskip("diffusers")
    plan = replace(TINY, cases=("base", "upsampler"), batch_sizes=(1,), beside=("diffusers",), profile=False)
    found = suite.measure(plan, lambda line: None, inline, InlineWorker).found
    assert len(found) == 4 and all(isinstance(one, Measured) for one in found)
    for mine, theirs in (found[:2], found[2:]):
        assert isinstance(mine, Measured) and isinstance(theirs, Measured)
        assert theirs.by.startswith("diffusers ")
        assert theirs.work == pytest.approx(mine.work, rel=0.03)  # it projects the tokens at every step


@pytest.mark.slow
def test_start_up_tells_what_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "COMMANDS", {"one": ["-c", "import glide"], "two": ["-c", "import numpy"]})
    one, two = startup.start_up(Plan(repeats=1))
    assert isinstance(one, Spent) and isinstance(two, Spent)
    assert (one.note, two.note) == ("imports nothing heavy", "imports numpy")
    assert one.seconds > 0 and two.seconds > 0


def test_types_are_settled_and_a_slow_one_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = replace(TINY, cases=("base",), beside=("original",), dtype=("auto", "bfloat16", "float32"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert suite.settled(plan).dtype == ("float32", "bfloat16")
        assert suite.types_of(replace(plan, dtype=("bfloat16",))) == ["bfloat16", "float32"]
    runs: list[tuple[torch.dtype, int]] = []
    fastest = peaks._fastest

    def counted(f: Callable[[], torch.Tensor], device: torch.device, times: int) -> float:
        runs.append((f().dtype, times))
        return fastest(f, device, times)

    monkeypatch.setattr(peaks, "_fastest", counted)
    monkeypatch.setattr(peaks, "slowdown", lambda device, dtype: 7 if dtype == torch.bfloat16 else 1)
    found = peaks.measure_peaks(plan, ["float32", "bfloat16"])
    assert list(found.convolution) == list(found.matmul) == ["float32", "bfloat16"]
    assert [times for dtype, times in runs if dtype == torch.bfloat16] == [1]


def test_they_take_turns_and_one_that_fails_leaves() -> None:
    """One step of each in a round; each is loaded before the first round; the rounds are in the results."""
    took: list[str] = []

    def draw(plan: Plan, name: str) -> Turns:
        def steps() -> Iterator[int]:
            for step in range(steps_needed(plan, CPU)):
                if name == "b" and step == 3:
                    raise RuntimeError("lost\nits memory")
                took.append(f"{name}{step}")
                yield step

        rounds = yield from turns(plan, steps(), CPU)
        return replace(measured("here", "float32", 1.0), case=name, rounds=rounds)

    race = Race(tuple(Job(name, draw, (name,)) for name in "abc"))
    found = in_turn(Plan(repeats=3), race, InlineWorker)
    assert took == ["a0", "a1", "b0", "b1", "c0", "c1", "a2", "b2", "c2", "a3", "c3", "a4", "c4"]
    assert found[1] == Note("b: failed, RuntimeError: lost its memory")
    for one, name in ((found[0], "a"), (found[2], "c")):
        assert isinstance(one, Measured) and one.case == name and len(one.rounds) == 3
    assert alone(Plan(repeats=2), draw, "d")[0].rounds  # type: ignore[union-attr]


def _two_steps(plan: Plan) -> Turns:
    """In a worker's process."""
    rounds = yield from turns(plan, iter(range(steps_needed(plan, CPU))), CPU)
    return replace(measured(str(os.getpid()), "float32", 1.0), rounds=rounds)


@pytest.mark.slow
def test_each_is_in_a_process_of_its_own() -> None:
    found = in_turn(Plan(repeats=2), Race((Job("one", _two_steps), Job("two", _two_steps))))
    assert len({one.by for one in found if isinstance(one, Measured)} | {str(os.getpid())}) == 3


# What is made of it


def measured(by: str, dtype: str, seconds: float) -> Measured:
    peak = Peak(begun=10**8, loading=4 * 10**9, drawing=2 * 10**9)
    return Measured("base", by, dtype, 2, seconds, 4e12, 10**9, peak, steps=50)


def test_the_report_computes_what_it_says() -> None:
    limits = Peaks({"float32": 2e12, "bfloat16": 8e12}, {"float32": 3e12, "bfloat16": 4e13})
    limits = limits.best(Peaks({"float32": 1e12}, {"float32": 4e12}))
    found: list[Found] = [measured("here", "bfloat16", 1.0), measured("here", "float32", 4.0)]
    found += [measured("diffusers 1", "float32", 6.0), measured("diffusers 1", "float16", 3.0)]
    report = Report("python x", "now", {"CPU": "one|two"}, limits, found)
    rows = [dict(zip(STEPS, report.cells(one), strict=True)) for one in report.measured]
    assert [row["pictures/s (steps)"] for row in rows] == [
        "0.04 (50)",
        "0.01 (50)",
        "0.00667 (50)",
        "0.0133 (50)",
    ]
    assert [row["GFLOP/s"] for row in rows] == ["4000", "1000", "667", "1333"]
    assert [row["of the convolution peak"] for row in rows] == ["50%", "50%", "33%", "-"]
    assert [row["of the matmul peak"] for row in rows] == ["10%", "25%", "17%", "-"]
    assert [row["times the step here, same type"] for row in rows] == ["-", "-", "1.50", "-"]
    assert [row["times the step here, fastest type"] for row in rows] == ["-", "-", "6.00", "3.00"]
    assert rows[0]["weights, GB"] == "1.000" and rows[0]["peak memory once loaded, GB"] == "2.000"
    line = report.line(found[2])
    assert line.startswith(
        "base, diffusers 1, float32, batch 2: 6 s a step, 667 GFLOP/s, 33% of the convolution peak"
    )
    assert "6.00 times the step here, fastest type" in line
    text = report.markdown()
    assert "| CPU | one/two |" in text
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert not math.isnan(report.measured[0].rate)


def test_ratios_are_those_of_the_rounds() -> None:
    """A pause of the machine in one round meets both, and no ratio."""
    ours = replace(measured("here", "float32", 2.0), rounds=(2.0, 20.0, 2.0))
    theirs = replace(measured("diffusers 1", "float32", 3.0), rounds=(3.0, 30.0, 4.0))
    report = Report("", "", {}, Peaks(), [ours, theirs])
    assert report.same_type(theirs) == [1.5, 1.5, 2.0] and report.same_type(ours) is None
    assert spread([1.5, 2.0, 1.25]) == "1.50 (1.25 to 2.00)" and spread([1.5]) == "1.50"
    assert "1.50 (1.50 to 2.00) times the step here, same type" in report.line(theirs)


def test_a_picture_is_computed_from_the_steps_of_both_networks() -> None:
    base, upsampler = (replace(measured("diffusers 1", "float32", s), batch=1) for s in (2.0, 3.0))
    upsampler = replace(upsampler, case="upsampler", steps=10)
    report = Report("", "", {}, Peaks(), [base, upsampler, replace(base, by="here")])
    (one,) = report.picture_by_steps()
    assert one.seconds == 2.0 * 50 + 3.0 * 10 and "50 steps of 2 s + 10 steps of 3 s" in one.note
    here = [replace(base, by="here", steps=20), replace(upsampler, by="here", steps=8, seconds=1.0)]
    spent = Report("", "", {}, Peaks(), [base, upsampler, *here]).picture_by_steps()
    assert [(one.what, one.seconds) for one in spent] == [
        ("picture, diffusers 1, float32", 130.0),
        ("picture of as many steps as here, diffusers 1, float32", 2.0 * 20 + 3.0 * 8),
        ("picture of as many steps as here, here, float32", 2.0 * 20 + 1.0 * 8),
    ]


def test_operators_have_kinds() -> None:
    assert kind_of("aten::convolution_backward") == "conv"
    assert kind_of("aten::native_group_norm") == "norm"
    assert kind_of("aten::addmm") == "linear"
    assert kind_of("aten::bmm") == "attention, and Muon's products"
    assert kind_of("aten::_foreach_lerp_") == "optimizer and averages"
    assert kind_of("aten::add") == "rest"


# The command


def test_the_command_writes_what_it_prints(
    tmp_path: Path, embedded: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "measure", partial(suite.measure, call=inline))
    out = tmp_path / "new" / "RESULTS.md"
    flags = f"--size tiny --cases embedded --dtype float32 --repeats 1 --beside --model {embedded}"
    engine.main([*flags.split(), "--out", str(out)])
    text = out.read_text()
    assert text in capsys.readouterr().out and "| embedded | here | float32 | 1 |" in text


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--repeats 0", "--repeats 0, expected at least 1"),
        ("--batch-sizes 1 0", "--batch-sizes 0"),
        ("--threads 0", "--threads 0"),
        ("--cases", "no cases"),
        ("--cases all", "invalid choice|all"),
        ("--dtype float8", "float8"),
        ("--cases startup --device nowhere", "nowhere"),
    ],
)
def test_bad_flags_are_one_sentence(flags: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        plan = parse(Plan, None, flags.split())
        suite.measure(plan, lambda line: None, inline, InlineWorker)


def test_the_examples_parse() -> None:
    examples = re.findall(r"^    python benchmarks/engine.py (.*)$", engine.__doc__ or "", re.MULTILINE)
    assert len(examples) > 4
    for flags in examples:
        parse(Plan, None, flags.split()).check()
