"""The house stands: no import points upwards or goes round, and the packages themselves are light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

PACKAGES = ("glide", "guidance", "upsampler")
MAY_IMPORT = {
    "glide": {"glide"},
    "guidance": {"guidance", "glide"},
    "upsampler": {"upsampler", "glide"},
    "scripts": {"glide", "guidance", "upsampler"},
}
OURS = {*MAY_IMPORT, "tests"}
PLUG_INS = (
    "guidance/base.py",
    "guidance/classifier_free.py",
    "guidance/likelihood.py",
    "guidance/classifier/guide.py",
    "guidance/clip/guide.py",
)
HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "PIL", "accelerate", "matplotlib")


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path, everywhere: bool) -> Iterator[str]:
    """Modules that a file imports: all of them, or (without `everywhere`) those needed to import it."""
    tree = ast.parse(path.read_text("utf-8"))
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = list(path.relative_to(ROOT).with_suffix("").parts)[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif not everywhere and (_is_function(node) or _is_for_types(node)):
            continue
        waiting.extend(ast.iter_child_nodes(node))


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_arrows_point_downwards(package: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imported(path, everywhere=True)
        if (top := name.partition(".")[0]) in OURS and top not in MAY_IMPORT[package]
    ]
    assert not wrong


def test_nothing_goes_round() -> None:
    graph: dict[str, set[str]] = {}
    for path in (path for package in PACKAGES for path in files(package)):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        graph[module] = set(imported(path, everywhere=False))
    graph = {module: {name for name in names if name in graph} - {module} for module, names in graph.items()}
    while leaves := [module for module, names in graph.items() if not names & set(graph)]:
        for module in leaves:
            del graph[module]
    assert not graph, f"imports go round among {sorted(graph)}"


def test_siblings_meet_only_at_the_denoiser() -> None:
    samplers = set(imported(ROOT / "glide/diffusion/samplers/ddpm_ddim.py", everywhere=True))
    assert not samplers & {"glide.networks.model", "glide.networks.unet", "guidance", "guidance.base"}
    for path in PLUG_INS:
        assert "glide.diffusion.samplers.ddpm_ddim" not in set(imported(ROOT / path, everywhere=True)), path


CHECKS = {"glide.utils.errors", "glide.utils.errors.InputError", "glide.utils.numbers"}
CHECKS |= {"glide.utils.numbers.read_whole", "glide.utils.numbers.shown_number"}


def test_the_process_knows_no_network() -> None:
    names = set(imported(ROOT / "glide/diffusion/process.py", everywhere=True))
    assert {name for name in names if name.startswith("glide")} <= CHECKS
    assert not any(name.startswith("torch.nn") for name in names)


def test_setup_lists_every_package() -> None:
    text = (ROOT / "setup.py").read_text("utf-8")
    assert f"packages={list(PACKAGES)}".replace("'", '"') in text


def test_the_lowest_versions_are_those_that_setup_admits() -> None:
    """So that whoever runs the tests with constraints-lowest.txt runs them with what is promised."""
    asked = dict(re.findall(r'"(\w+)>=([\d.]+)', (ROOT / "setup.py").read_text("utf-8")))
    lowest = dict(
        re.findall(r"^(\w+)==([\d.]+)(?:  #.*)?$", (ROOT / "constraints-lowest.txt").read_text("utf-8"), re.M)
    )
    assert asked.keys() - lowest.keys() <= {"setuptools", "ruff", "mypy", "wandb", "trackio"}
    for name, version in lowest.items():
        assert (version + ".").startswith(asked[name] + "."), f"{name}: {asked[name]} in setup.py"


def test_every_direct_dependency_has_its_version_in_the_constraints() -> None:
    asked = set(re.findall(r'"(\w+)>=[\d.]+', (ROOT / "setup.py").read_text("utf-8")))
    held = set(re.findall(r"^(\w+)==[\d.]+$", (ROOT / "constraints.txt").read_text("utf-8"), re.M))
    assert asked == held


@pytest.mark.parametrize(
    "module",
    [
        *PACKAGES,
        "glide.utils.cli",
        "toolkit.commands.inpaint_flags",
        "toolkit.commands.interpolate_flags",
        "toolkit.commands.sample_flags",
        "toolkit.pipelines.settings",
        "toolkit.commands.upsample_flags",
    ],
)
def test_light_to_import(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_the_map_of_the_house_names_every_module(package: str) -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    tree = text.partition("## Who holds what")[2].partition("## The abstractions")[0]
    section = re.split(r"^(?=\w+/ )", tree.partition(f"\n{package}/ ")[2], maxsplit=1, flags=re.MULTILINE)[0]
    section = re.sub(r"scripts/\w+\.py", "", section)
    named = re.findall(r"(?<![\w./])(\w+)\.py", section)
    modules = {path.stem for path in (ROOT / package).glob("*.py")} - {"__init__"}
    assert set(named) == modules
    assert len(named) == len(modules)
