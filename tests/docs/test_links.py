"""README, docs and CONTRIBUTING: every link, every file and every heading that they name is there."""

import re
from pathlib import Path

import pytest

from support.paths import ROOT

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("*/*.md"),
        *(ROOT / "glide").rglob("*.md"),
    ],
    key=str,
)
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
GROUPS = {
    "glide.conditions",
    "glide.features",
    "glide.guidance",
    "glide.image_encoders",
    "glide.samplers",
    "glide.datasets",
    "glide.losses",
    "glide.presets",
}  # of entry points
FOLDERS = "glide|guidance|upsampler|toolkit|scripts|benchmarks|examples|tests|docs"


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    text = CODE.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", CODE.sub("", page.read_text("utf-8"))):
        if re.match(r"https?:", link):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{page.name}: {link}"
        assert not heading or heading in anchors(target), f"{page.name}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_are_there(page: Path) -> None:
    if page.name == "CHANGELOG.md":  # it names what was, too
        return
    text = page.read_text("utf-8")
    for name in re.findall(rf"`((?:{FOLDERS})/[\w./-]+\.(?:py|c|h|md|json|png))`", text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_modules_that_are_named_are_there() -> None:
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        for name in re.findall(
            r"`(?:python -m )?((?:glide|guidance|upsampler|toolkit)(?:\.\w+)+)`", page.read_text("utf-8")
        ):
            if name in GROUPS:
                continue
            parts = name.split(".")
            heads = [ROOT.joinpath(*parts[:end]) for end in range(len(parts), 0, -1)]
            found = next(h for h in heads if h.is_dir() or h.with_suffix(".py").is_file())
            rest = parts[len(found.relative_to(ROOT).parts) :]
            code = found / "__init__.py" if found.is_dir() else found.with_suffix(".py")
            assert not rest or re.search(rf"\b{rest[0]}\b", code.read_text("utf-8")), f"{page.name}: {name}"
