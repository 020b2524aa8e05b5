"""The name by which the program was called: a script, or one command of `glide`.

Texts name other commands as scripts (`python scripts/sample.py`); `as_called` turns them into the form that the reader
has called, which after `pip install` is `glide sample`.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

SCRIPT = re.compile(r"(?:\bpython )?(?<![\w/.-])scripts/(\w+)\.py\b")
_launcher = ""
_command: tuple[str, ...] = ()
_arguments: tuple[str, ...] = ()


def called_as(launcher: str, command: str, arguments: Sequence[str]) -> None:
    """Note that a command runs by a launcher ("glide", "python -m toolkit") in place of its script.

    command: its words ("train base"). arguments: those after them.
    """
    global _launcher, _command, _arguments
    _launcher, _command, _arguments = launcher, tuple(command.split()), tuple(arguments)


def program() -> str:
    """The name of the program: "sample.py", or "glide sample"."""
    if _launcher:
        return " ".join((_launcher, *_command))
    return Path(sys.argv[0]).name or "this script"


def command_line() -> str:
    """The command line that started the program, as one would type it again."""
    if _launcher:
        return shlex.join([*_launcher.split(), *_command, *_arguments])
    return shlex.join(["python", *sys.argv])


def as_called(text: str) -> str:
    """`text`, with the scripts that it names written as commands where the program is one."""
    return SCRIPT.sub(lambda match: f"{_launcher} {words_of(match[1])}", text) if _launcher else text


def words_of(script: str) -> str:
    """The words of a script's command: "train base" of train_base, "guidance-sweep" of guidance_sweep."""
    if script.startswith("train_"):
        return script.replace("_", " ", 1)
    return script.replace("_", "-")
