"""Results of an earlier measurement stay, in every measuring script, unless --overwrite says so."""

import os
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from glide.utils.atomic_write import write_text
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free, check_new_folder
from glide.utils.results_folder import LOCK, Results
from support.paths import ROOT

NAMES = ("table.md", "cfg*.png")


def test_results_that_are_there_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = Results(out, NAMES, overwrite=False)
    assert not out.exists()  # nothing is made beforehand
    with results:
        write_text(results.path("table.md"), "first")
        write_text(results.path("table.md"), "first, with more")  # its own: a table grows
    (out / "notes.txt").write_text("a user's own")
    with pytest.raises(
        InputError, match=r"out already holds results \(table\.md\): give another --out, or --overw"
    ):
        Results(out, NAMES, overwrite=False)
    for name in "cab":
        (out / f"cfg-{name}.png").touch()
    with pytest.raises(InputError, match=r"\(cfg-a\.png, cfg-b\.png, cfg-c\.png and 1 more\)"):
        Results(out, NAMES, overwrite=False)
    with Results(out, NAMES, overwrite=True) as results:
        write_text(results.path("table.md"), "second")
    assert (out / "table.md").read_text() == "second"
    assert (out / "notes.txt").read_text() == "a user's own"
    assert not (out / LOCK).exists()
    Results(out, ("other.md",), overwrite=False)  # another measurement, of other names


def test_two_measurements_at_once_do_not_mix(tmp_path: Path) -> None:
    first, second, anew = (Results(tmp_path, NAMES, overwrite) for overwrite in (False, False, True))
    with first:
        for other in (second, anew):
            with (
                pytest.raises(InputError, match=rf"in use by process {os.getpid()} .*give another --out"),
                other,
            ):
                pass
        write_text(first.path("table.md"), "first")
    with pytest.raises(InputError, match="already holds results"), second:  # it ended meanwhile
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]


def test_a_measurement_that_fails_leaves_no_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="failed"), Results(tmp_path / "out", NAMES, overwrite=False):
        raise InputError("failed")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write to .*file"), Results(tmp_path / "file", NAMES, False):
        pass


def test_every_name_is_looked_for_beforehand(tmp_path: Path) -> None:
    with Results(tmp_path, NAMES, overwrite=False) as results, pytest.raises(ValueError, match=r"other\.md"):
        results.path("other.md")


def test_a_single_output(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    check_free(path, overwrite=False)
    path.touch()
    check_free(path, overwrite=True)
    with pytest.raises(InputError, match=r"x\.json exists already: give another name, or --overwrite"):
        check_free(path, overwrite=False)
    with pytest.raises(InputError, match="which is a folder, expected a file"):
        check_free(tmp_path, overwrite=True)
    check_new_folder(tmp_path / "new")
    with pytest.raises(InputError, match="exists already: give a new folder by --out, or remove it"):
        check_new_folder(tmp_path)


@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("scripts/evaluate.py --out {out}", "evaluate.csv"),
        ("scripts/evaluate.py --out {out}", "cfg3-right.png"),
        ("scripts/evaluate.py --out {out}", "cfg-3-at-256.png"),
        ("scripts/evaluate_inpainting.py --out {out}", "inpainting.md"),
        ("scripts/evaluate_upsampler.py --out {out}", "psnr.json"),
        ("scripts/guidance_sweep.py --no-plot --out {out}", "sweep.csv"),
        ("scripts/guidance_sweep.py --no-plot --guidance cfg:3+pag:1 --out {out}", "cfg3-pag1.png"),
        ("scripts/solver_sweep.py --no-plot --out {out}", "solvers.csv"),
        ("scripts/solver_sweep.py --no-plot --solver ddpm:250 --out {out}", "ddpm-250-250.png"),
        ("scripts/nll.py --out {out}/nll.json", "nll.json"),
        ("scripts/binding.py --out {out}/binding.json", "binding.json"),
        ("scripts/check_data.py --data shapes --report {out}/report.json", "report.json"),
        ("scripts/check_data.py --data shapes --sheet {out}/sheet.png", "sheet.png"),
        ("examples/emoji/judge_emoji.py --data none.tar --out {out}", "judged.json"),
    ],
)
def test_every_measuring_script_keeps_earlier_results(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str,
    name: str,
) -> None:
    """It says so before it looks for the model; --overwrite is what it names, and then the model is what is missing."""

    def call(*more: str) -> tuple[int, str]:
        path, *flags = shlex.split(script.format(out=tmp_path))
        if "check_data" not in path:
            flags += ["--model", str(tmp_path / "no model")]
        monkeypatch.setattr(sys, "argv", [path, *flags, *more])
        monkeypatch.syspath_prepend(str((ROOT / path).parent))
        with pytest.raises(SystemExit) as exit_:
            runpy.run_path(str(ROOT / path), run_name="__main__")
        return int(exit_.value.code or 0), capsys.readouterr().err

    (tmp_path / name).write_text("earlier")
    code, said = call()
    assert code == 2 and "--overwrite" in said and name in said and len(said.splitlines()) == 1
    code, said = call("--overwrite")
    assert "already" not in said
    if "check_data" in script:
        assert code == 0
    else:
        assert code == 2 and (tmp_path / name).read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == [name]
