"""docs/architecture.md: its tree has every module once, with a sentence, and no other; its rule is CONTRIBUTING's."""

import re

from support.paths import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text("utf-8")
PACKAGES = ("glide", "guidance", "upsampler", "toolkit")


def tree() -> list[tuple[str, str]]:
    """(path, sentence) of each line of the page's tree; folders end in a slash."""
    (text,) = re.findall(r"^## The tree\n+```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    found, above = [], list[str]()
    for line in text.splitlines():
        indent, name, sentence = re.fullmatch(r"( *)(\S+) +(.+)", line).groups()  # type: ignore[union-attr]
        above = [*above[: len(indent) // 2], name.rstrip("/")]
        found.append(("/".join(above) + "/" * name.endswith("/"), sentence))
    return found


def test_every_module_is_in_the_tree_once() -> None:
    modules = [path for path, _ in tree() if path.endswith(".py")]
    there = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert sorted(modules) == sorted(str(p.relative_to(ROOT)) for p in there if p.name != "__init__.py")


def test_every_package_is_in_the_tree_once() -> None:
    folders = [path for path, _ in tree() if path.endswith("/")]
    there = [path.parent for package in PACKAGES for path in (ROOT / package).rglob("__init__.py")]
    assert sorted(folders) == sorted(f"{folder.relative_to(ROOT)}/" for folder in there)


def test_the_rule_is_the_one_of_contributing() -> None:
    (rule,) = re.findall(r"^    (utils \|.*)$", PAGE, re.MULTILINE)
    assert rule in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
