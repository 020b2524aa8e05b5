"""Progress of long work: bars on a terminal, plain lines in log files, nothing where all is to be quiet."""

import io
import sys

import pytest

from glide.utils import progress as bars
from glide.utils.printable import be_quiet
from glide.utils.progress import Lines, progress


class Clock:
    """Time that passes only when it is told to."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(bars, "time", found)
    return found


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_where_there_is_no_terminal(clock, capsys):
    for i in progress(range(100), desc="drawing \x1b[2J", unit="step"):
        clock.now += 1.0
        assert i == clock.now - 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == r"drawing \x1b[2J: 10 of 100 steps, 10 s"
    assert [line.split()[2] for line in lines] == ["10", "30", "70", "100"]
    assert "\r" not in "".join(lines)


def test_short_work_prints_nothing(clock, capsys):
    with progress(total=3, desc="validation", leave=False) as bar:
        for _ in range(3):
            clock.now += 3.0
            bar.update()
    assert list(progress([1, 2])) == [1, 2]
    assert capsys.readouterr().err == ""


def test_the_description_is_in_the_lines(clock, capsys):
    with progress(total=30, desc="run", initial=10) as bar:
        clock.now += 11.0
        bar.set_postfix(loss="0.5", img_s="7")
        bar.update()
    assert capsys.readouterr().err.splitlines()[0] == "run: 11 of 30 steps, 11 s, loss 0.5, img_s 7"


def test_an_early_end_is_reported(clock, capsys):
    with pytest.raises(KeyError):
        for i in progress(range(100), desc="run"):
            clock.now += 10.0
            if i == 1:
                raise KeyError
    assert "1 of 100" in capsys.readouterr().err


def test_nothing_where_all_is_quiet(clock, capsys):
    be_quiet(True)
    try:
        for _ in progress(range(100), desc="run"):
            clock.now += 10.0
    finally:
        be_quiet(False)
    for _ in progress(range(100), disable=True):
        clock.now += 10.0
    assert capsys.readouterr().err == ""


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(bars, "SHOWN_AFTER", 0.0)
    bar = progress(range(3), desc="drawing \x1b[31m")
    assert not isinstance(bar, Lines)
    assert list(bar) == [0, 1, 2]
    assert r"drawing \x1b[31m: 100%" in terminal.getvalue() and "\x1b[31m" not in terminal.getvalue()
