"""The frame of every command: flags, errors and warnings as one line each, and exit codes."""

import io
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from typing import NoReturn, TextIO, TypeVar

import tyro
from tyro.conf import FlagCreatePairsOff

from glide.utils.errors import InputError, one_line, reason_of
from glide.utils.flags import prepare
from glide.utils.memory import available_memory
from glide.utils.printable import be_quiet, say
from glide.utils.program import as_called, program
from glide.utils.ranges import check_numbers
from glide.utils.signals import Terminated, raised
from glide.version import __version__

INPUT_ERROR = 2  # the exit code of argument parsers, tyro's included, for invalid input
OF_ALL = "--version prints the version; --quiet leaves out progress bars and messages about the work."
INTERRUPTED = 128 + signal.SIGINT

Args = TypeVar("Args")


def parse(
    args: type[Args], description: str | None, argv: Sequence[str] | None = None, default: Args | None = None
) -> Args:
    """Parse the flags of a dataclass and return an instance; a bool is a flag without a value.

    description: text above the flags in --help, usually the script's docstring. argv: None is the process's own.
    default: values for flags that are not given. InputError, in one sentence, for flags that do not parse; --help
    exits with 0.
    """
    words = prepare(args, sys.argv[1:] if argv is None else argv, default)
    if "--version" in words:
        say(f"glide {__version__}", result=True)
        sys.exit(0)
    be_quiet("--quiet" in words)
    said = io.StringIO()
    start = tyro.MISSING_NONPROP if default is None else default
    try:
        with redirect_stderr(said):
            built = tyro.cli(
                args,
                prog=program(),
                args=[word for word in words if word != "--quiet"],
                description=f"{description or ''}\n\n{OF_ALL}",
                default=start,
                config=(FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise InputError(_first_sentence(said.getvalue())) from None
    check_numbers(built)
    return built


def _first_sentence(box: str) -> str:
    """The message in tyro's box, before the rule under which it repeats the help text."""
    lines = [line.strip("│ ") for line in box.splitlines() if line.startswith("│")]
    rule = next((i for i, line in enumerate(lines) if line.startswith("──")), len(lines))
    return f"{' '.join(lines[:rule]).rstrip('.') or box} (see --help)"


def run(main: Callable[[], object]) -> NoReturn:
    """Call `main` and exit: 0 when it returns, 2 with one line on stderr for invalid input.

    InputError, OSError (no space, no permission, ...) and a lack of memory become `error: ...`; warnings become
    `warning: ...`; Ctrl-C exits with 130, SIGTERM with 143, and leave nothing half-written. Any other exception is a
    defect of the program and keeps its traceback. Always raises SystemExit.
    """
    _escape_unencodable()
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        with raised():
            main()
    except BrokenPipeError:
        # The reader has gone (`... | head`): print nothing more, and let the last flush not fail either.
        sys.stdout = None
        sys.exit(0)
    except InputError as error:
        fail(str(error))
    except OSError as error:
        fail(_sentence(error))
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        fail(f"got no memory for that ({reason_of(error)}), expected enough: {LESS}")
    except Terminated as stop:
        say(f"stopped by {signal.Signals(stop.number).name}", sys.stderr)
        sys.exit(128 + stop.number)
    except KeyboardInterrupt:
        say("interrupted", sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        warnings.showwarning = shown
    sys.exit(0)


LESS = "ask for fewer or smaller pictures at a time (--batch-size, --call-size), or give it a larger machine"
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
_OF_ONEDNN = ("could not create a primitive", "could not create a memory")
LITTLE = 2**28  # bytes left, at which oneDNN's messages mean a lack of memory


def ran_out_of_memory(error: BaseException) -> bool:
    """True for an error of the machine or its GPU about a lack of memory. Needs no torch."""
    said = str(error)
    if isinstance(error, MemoryError) or any(words in said for words in _OUT_OF_MEMORY):
        return True
    return any(words in said for words in _OF_ONEDNN) and available_memory() < LITTLE


def _escape_unencodable() -> None:
    """Escape characters that the console lacks also in output that does not go through `say`, such as --help."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def fail(message: str) -> NoReturn:
    """`error: message`, on one line of stderr, and exit code 2."""
    say(f"error: {one_line(as_called(message))}", sys.stderr)
    sys.exit(INPUT_ERROR)


def _sentence(error: OSError) -> str:
    """The operating system's message, with its file."""
    said = reason_of(error)
    return f"{error.filename}: {said}" if error.filename is not None else said


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {as_called(one_line(message))}", file or sys.stderr)
