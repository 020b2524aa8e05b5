"""The house stands: no import points upwards or goes round, packages are light, modules and functions short."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from support.paths import ROOT

PACKAGES = ("glide", "guidance", "upsampler", "toolkit")
RULE = """
glide.utils
glide.diffusion glide.shapes
glide.networks
glide.checkpoints glide.data
glide.training
guidance upsampler
toolkit.pipelines
toolkit.evaluation toolkit.web
toolkit.commands
scripts
"""
"""A package imports only packages of the lines above its own; packages of one line do not import each other."""
LINE = {package: line for line, packages in enumerate(RULE.split("\n")) for package in packages.split()}
HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "PIL", "accelerate", "matplotlib")
LONGEST_MODULE, LONGEST_FUNCTION, MEDIAN_MODULE = 350, 60, 120  # lines


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name, scripts too."""
    found = {}
    for path in (
        path for package in (*PACKAGES, "scripts") for path in sorted((ROOT / package).rglob("*.py"))
    ):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = path
    return found


def imported(path: Path) -> Iterator[str]:
    """Every module, or name in one, that a file imports: in functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports by a relative name"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def graph() -> dict[str, set[str]]:
    """Of each module: the modules of ours that it imports."""
    return {
        name: {one for one in imported(path) if one in modules()} - {name} for name, path in modules().items()
    }


def package_of(module: str) -> str | None:
    """The package of the rule that holds a module. None for the roots of glide and toolkit."""
    return next((package for package in LINE if f"{module}.".startswith(f"{package}.")), None)


def test_every_module_has_its_place_in_the_rule() -> None:
    roots = {"glide", "glide.version", "toolkit", "toolkit.__main__"}
    assert {name for name in modules() if package_of(name) is None} <= roots


@pytest.mark.slow
def test_arrows_point_downwards() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in sorted(others)
        if (here := package_of(name)) and (there := package_of(other)) and here != there
        if LINE[there] >= LINE[here]
    ]
    assert not wrong


def test_nothing_goes_round() -> None:
    left = {name: set(others) for name, others in graph().items()}
    while leaves := [name for name, others in left.items() if not others & set(left)]:
        for name in leaves:
            del left[name]
    assert not left, f"imports go round among {sorted(left)}"


def test_plug_ins_know_no_sampler_and_samplers_no_network() -> None:
    for name, others in graph().items():
        if name.startswith("glide.diffusion.samplers."):
            assert not any(other.startswith(("glide.networks", "guidance")) for other in others), name
        if name.startswith("guidance.") and "train" not in name:
            assert not any(other.startswith("glide.diffusion.samplers") for other in others), name


def test_the_process_knows_no_network() -> None:
    assert graph()["glide.diffusion.process"] <= {
        "glide.diffusion.noise_schedules",
        "glide.utils.errors",
        "glide.utils.numbers",
    }
    assert not any(name.startswith("torch.nn") for name in imported(modules()["glide.diffusion.process"]))


def test_every_folder_of_modules_is_a_package() -> None:
    """So that setuptools finds it."""
    folders = {path.parent for name, path in modules().items() if not name.startswith("scripts")}
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.slow
def test_modules_and_functions_are_short() -> None:
    lines = {name: path.read_text("utf-8").count("\n") for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > LONGEST_MODULE} == {}
    assert statistics.median(lines.values()) < MEDIAN_MODULE
    long = [
        f"{name}.{node.name}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (node.end_lineno or 0) - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert not long


def test_the_lowest_versions_are_those_that_setup_admits() -> None:
    """So that whoever runs the tests with constraints-lowest.txt runs them with what is promised."""
    asked = dict(re.findall(r'"(\w+)>=([\d.]+)', (ROOT / "setup.py").read_text("utf-8")))
    lowest = dict(
        re.findall(r"^(\w+)==([\d.]+)(?:  #.*)?$", (ROOT / "constraints-lowest.txt").read_text("utf-8"), re.M)
    )
    assert asked.keys() - lowest.keys() <= {
        "setuptools",
        "ruff",
        "mypy",
        "wandb",
        "trackio",
        "pyarrow",
        "datasets",
    }
    for name, version in lowest.items():
        assert (version + ".").startswith(asked[name] + "."), f"{name}: {asked[name]} in setup.py"


def test_every_direct_dependency_has_its_version_in_the_constraints() -> None:
    asked = set(re.findall(r'"(\w+)>=[\d.]+', (ROOT / "setup.py").read_text("utf-8")))
    held = set(re.findall(r"^(\w+)==[\d.]+$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    assert asked == held


LIGHT = (
    *PACKAGES,
    "glide.utils.cli",
    "glide.networks.config",
    "glide.networks.presets",
    "glide.diffusion.samplers.registry",
    "guidance.registry",
    "guidance.options",
    "toolkit.pipelines.settings",
    "toolkit.commands.main",
)


def test_light_to_import() -> None:
    """So that `--help` answers at once: these, and all modules of flags."""
    names = [*LIGHT, *(name for name in modules() if name.endswith("_flags"))]
    code = f"""
import importlib, sys
for name in {names}:
    importlib.import_module(name)
    heavy = [one for one in {HEAVY} if one in sys.modules]
    if heavy:
        sys.exit(f"{{name}} imports {{heavy}}")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_guidances_are_declared_without_torch() -> None:
    code = "import sys; from guidance.registry import built_in; print(sorted(built_in()), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    names = ["apg", "auto", "cads", "cfg", "classifier", "clip", "inner", "none", "pag", "picture"]
    assert done.stdout.strip() == f"{names} False"
