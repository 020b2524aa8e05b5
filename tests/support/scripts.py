"""Calling any script's `main` in the test's process, which costs no start of another one."""

from types import ModuleType

import pytest

from glide.utils.cli import run


def call(script: ModuleType, *argv: object) -> int:
    """Exit code of the script, with threads and files as they are."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code
