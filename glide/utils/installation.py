"""Check that the project's packages are the project's: PyPI has others named `glide` and `guidance`.

pip writes two packages of one name into the same folder, the later over the earlier, and a package that comes earlier
on Python's path hides ours. Either ends in an ImportError far from its cause, unless it is looked for.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("glide", "guidance", "upsampler", "toolkit")
MARK = b"\n__toolkit__ = "
"""A line of the `__init__.py` of each of our packages, and of no other's."""
HOME = Path(__file__).resolve().parents[2]  # the folder in which our packages lie
OWN = "in an environment of its own"


def check_packages(*needed: str) -> None:
    """ImportError, in one sentence that says what to do, where another package has taken the place of one of ours.

    Looks for packages that were written over ours; of those that are `needed` also for ones that hide ours, and for
    ours of another installation. Imports none of them.
    """
    for name in PACKAGES:
        init = HOME / name / "__init__.py"
        # no file: the other package was uninstalled again, and has taken ours with it
        lost = not init.is_file() and init.parent.is_dir() and _origin(name) is None
        if lost or not _is_ours(init):
            raise ImportError(
                f"another package named {name} was installed over Glide Toolkit's, in {init.parent}: run `pip "
                f"uninstall {name}` and `pip install --force-reinstall glide-toolkit`, {OWN}",
                name=name,
            )
    for name in needed:
        origin = _origin(name)
        if origin is None:
            continue
        if not _is_ours(origin):
            raise ImportError(
                f"another package named {name}, in {origin.parent}, hides Glide Toolkit's: remove it (`pip uninstall "
                f"{name}`), or install glide-toolkit {OWN}",
                name=name,
            )
        if origin.resolve().parents[1] != HOME:
            raise ImportError(
                f"two installations of Glide Toolkit are mixed, glide of {HOME} and {name} of {origin.parent.parent}: "
                "uninstall one, or take one out of PYTHONPATH",
                name=name,
            )


def _is_ours(init: Path) -> bool:
    """False for the `__init__.py` of another package; True where there is no such file to be read."""
    return init.suffix != ".py" or not init.is_file() or MARK in init.read_bytes()


def _origin(name: str) -> Path | None:
    """The file that Python imports as this package; None where there is none."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else Path(spec.origin)
