"""The `glide` command: its table, its help, its errors, and the names by which commands call themselves."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module

import pytest

from glide.utils import program
from glide.utils.cli import run
from glide.utils.errors import InputError
from glide.version import __version__
from support.paths import ROOT
from support.sample_script import Capture
from toolkit.commands.main import BY_WORDS, COMMANDS, HELP, OTHER_NAMES, dispatch

SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("[a-z]*.py"))
HEAVY = ("torch", "numpy", "PIL", "transformers", "tokenizers", "safetensors", "accelerate", "matplotlib")
EVERY_HELP = f"""
import io, sys
from contextlib import redirect_stdout
from toolkit.commands.main import dispatch
for words in sys.argv[1:]:
    said = io.StringIO()
    try:
        with redirect_stdout(said):
            dispatch([*words.split(), "--help"])
    except SystemExit as end:
        assert end.code == 0, words
    assert f"usage: glide {{words}}" in said.getvalue(), words
    loaded = [name for name in {HEAVY} if name in sys.modules]
    assert not loaded, f"glide {{words}} --help imports {{loaded}}"
"""


@pytest.fixture(autouse=True)
def called_as_a_script() -> Iterator[None]:
    yield
    program.called_as("", "", ())


def code_of(*argv: str) -> int:
    with pytest.raises(SystemExit) as end:
        run(lambda: dispatch(argv))
    assert isinstance(end.value.code, int)
    return end.value.code


def test_every_script_is_a_command() -> None:
    assert sorted(command.script for command in BY_WORDS.values()) == SCRIPTS
    assert BY_WORDS.keys() >= set(OTHER_NAMES.values())
    for command in BY_WORDS.values():
        text = (ROOT / "scripts" / f"{command.script}.py").read_text("utf-8")
        assert f'script("{command.script}")' in text
        for reference in (command.flags, command.run):
            module, _, name = reference.partition(":")
            assert callable(getattr(import_module(module), name))


@pytest.mark.slow
def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP, *BY_WORDS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("argv", [(), *((word,) for word in HELP)])
def test_help_names_every_command(argv: tuple[str, ...], capsys: Capture) -> None:
    assert code_of(*argv) == 0
    said = capsys.readouterr().out
    assert "usage: glide COMMAND" in said and __version__ in said
    for command in BY_WORDS.values():
        assert f"  {command.words} " in said and command.summary in said
    for heading in COMMANDS:
        assert f"\n{heading}:\n" in said
    assert max(map(len, said.splitlines())) <= 80


def test_version(capsys: Capture) -> None:
    assert code_of("--version") == 0 and code_of("sample", "--version") == 0
    assert capsys.readouterr().out == f"glide {__version__}\n" * 2


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [
        (("smaple",), "sample"),
        (("train_base", "--data", "x"), "train base"),
        (("sample.py",), "sample"),
        (("guidance_sweep",), "guidance-sweep"),
        (("train", "upsample"), "train upsampler"),
        (("train", "--data", "x"), "train "),
        (("generate",), "sample"),
        (("upscale",), "upsample"),
        (("xyzzy",), "another command"),
        (("--steps", "3"), "another command"),
        (("\x1b[31m",), "another command"),
        (("",), "another command"),
    ],
)
def test_an_unknown_command_is_answered_with_the_nearest_one(
    argv: tuple[str, ...], nearest: str, capsys: Capture
) -> None:
    assert code_of(*argv) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("error: got ")
    assert f"expected {nearest}" in err and err.endswith("see glide --help\n")


def test_a_word_with_commands_below_it_lists_them(capsys: Capture) -> None:
    for argv in (("train",), ("train", "--help"), ("help", "train")):
        assert code_of(*argv) == 0
        said = capsys.readouterr().out
        assert said.count("\n") == 7 and "inpaint" not in said


def test_a_command_calls_itself_as_it_was_called(capsys: Capture) -> None:
    assert code_of("sample", "--help") == 0
    said = capsys.readouterr().out
    assert (
        "usage: glide sample " in said
        and "    glide sample --guidance cfg" in said
        and "scripts/" not in said
    )
    assert code_of("sample", "--stpes", "3") == 2
    assert "got --stpes, which glide sample does not have, expected --steps" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        dispatch(["posthoc-ema", "--help"], "python -m toolkit")
    said = capsys.readouterr().out
    assert "    python -m toolkit train base --data" in said


def test_the_command_line_is_that_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/train_base.py", "--data", "my photos"])
    text = "see `python scripts/train_base.py --help` and scripts/check_data.py, not my/scripts/nll.py"
    assert program.program() == "train_base.py" and program.as_called(text) == text
    assert program.command_line() == "python scripts/train_base.py --data 'my photos'"
    program.called_as("glide", "train base", ["--data", "my photos"])
    assert program.program() == "glide train base"
    assert program.command_line() == "glide train base --data 'my photos'"
    assert (
        program.as_called(text) == "see `glide train base --help` and glide check-data, not my/scripts/nll.py"
    )


@pytest.mark.slow
def test_flags_are_checked_before_torch_is_imported() -> None:
    code = (
        "import sys; from toolkit.commands.main import dispatch; from glide.utils.errors import InputError\n"
        "try: dispatch(['interpolate', '--out', 'x.png'])\n"
        "except InputError as error: print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "give --prompt twice" in done.stdout and done.stdout.endswith(" False\n")


def test_as_a_module() -> None:
    command = [sys.executable, "-m", "toolkit", "nll", "--imags", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert "got --imags, which python -m toolkit nll does not have, expected --images" in done.stderr


def test_dispatch_raises_one_sentence() -> None:
    with pytest.raises(InputError, match="got 'x', which glide does not have"):
        dispatch(["x"])
