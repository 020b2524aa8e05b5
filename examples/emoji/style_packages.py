"""npm's packages of emoji drawn in one style each: fetched by npm, or read from a folder of what it fetched.

A package is a tarball of `npm pack` or a folder of node_modules. It is read as it lies there: nothing of it is run, nor
unpacked to the disk. Iconify's packages hold icons.json (SVG by name), chars.json (names by code points) and info.json
(the authors and their licence).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glide.utils.errors import InputError, one_line
from glide.utils.json_files import MAX_BYTES, as_table, parse_json

ALLOWED = ("Apache-2.0", "MIT", "CC-BY-4.0")
"""Licences, by their SPDX names, that ask users of a picture only to name its authors."""


@dataclass(frozen=True)
class Style:
    """A style: the word for it in captions, and the package that draws it."""

    word: str
    package: str
    version: str
    """The version that npm fetches, so that a set can be built again; a local folder may have another."""


STYLES = {
    style.word: style
    for style in (
        Style("noto", "@iconify-json/noto", "1.2.9"),
        Style("blob", "@iconify-json/noto-v1", "1.2.5"),
        Style("twemoji", "@iconify-json/twemoji", "1.2.5"),
        Style("fluent", "@iconify-json/fluent-emoji", "1.2.7"),
        Style("flat", "@iconify-json/fluent-emoji-flat", "1.2.6"),
        Style("emojione", "@iconify-json/emojione", "1.2.3"),
        Style("mozilla", "@iconify-json/fxemoji", "1.2.2"),
        Style("openmoji", "@iconify-json/openmoji", "1.2.29"),  # CC-BY-SA-4.0: by --allow only
    )
}
LABELS = Style("", "emojibase-data", "17.0.0")  # what the emoji are called


@dataclass(frozen=True)
class Icon:
    """A picture of a package: the inside of an SVG, its view box, and whether it is mirrored from left to right."""

    name: str
    body: str
    box: tuple[float, float, float, float]
    mirrored: bool


@dataclass(frozen=True)
class IconSet:
    """The icons of a style, and their authors."""

    style: Style
    version: str
    licence: str
    """The licence, by its SPDX name."""
    licence_url: str
    title: str
    author: str
    url: str
    icons: Mapping[str, Icon]
    """Icons by every name, other names of the same icon included; those that hold more than shapes are left out."""
    by_code: Mapping[str, str]
    """Names by code points ("1f34e", "1f468-200d-1f4bb"), without variation selectors; may be empty."""

    @property
    def source(self) -> str:
        return f"{self.style.package}@{self.version}"


class Package:
    """Files of an npm package, a tarball or a folder. InputError for one that cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def table(self, name: str) -> dict[str, Any]:
        return as_table(self.value(name), f"{self.path}: {name}")

    def value(self, name: str) -> Any:
        """The value of a JSON file of the package."""
        return parse_json(self._bytes(name), f"{self.path}: {name}")

    def _bytes(self, name: str) -> bytes:
        try:
            if self.path.is_dir():
                with (self.path / name).open("rb") as file:
                    data = file.read(MAX_BYTES + 1)
            else:
                with tarfile.open(self.path, "r:gz") as tar:
                    member = tar.extractfile(f"package/{name}")
                    data = b"" if member is None else member.read(MAX_BYTES + 1)
        except (OSError, KeyError, EOFError, tarfile.TarError, zlib.error) as error:
            raise InputError(
                f"{name} of the package {self.path} cannot be read ({one_line(error)}): fetch the package again"
            ) from error
        if len(data) > MAX_BYTES:
            raise InputError(f"{name} of the package {self.path} has more than {MAX_BYTES} bytes")
        return data


def find_package(style: Style, local: Path | None, cache: Path) -> Package:
    """The package of a style: in the folder `local` where that is given, else in `cache`, where npm puts it.

    InputError where `local` has none or several of it, and where npm is missing or cannot fetch it.
    """
    if local is not None:
        found = _in_folder(style, local)
        if len(found) != 1:
            several = f" and {found[1]}" if found else ""
            raise InputError(
                f"{local} holds {found[0] if found else 'no package'}{several}, expected one "
                f"{_stem(style)}-VERSION.tgz or {style.package}/: put it there by npm pack {style.package}"
            )
        return Package(found[0])
    tarball = cache / f"{_stem(style)}-{style.version}.tgz"
    if not tarball.is_file():
        _fetch(style, cache)
    return Package(tarball)


def _stem(style: Style) -> str:
    """Name of npm's tarball, before its version."""
    return style.package.lstrip("@").replace("/", "-")


def _in_folder(style: Style, folder: Path) -> list[Path]:
    named = re.compile(re.escape(_stem(style)) + r"-\d[^/]*\.tgz")
    tarballs = [path for path in sorted(folder.glob("*.tgz")) if named.fullmatch(path.name)]
    unpacked = (folder / style.package, folder / "node_modules" / style.package)
    return tarballs + [path for path in unpacked if path.is_dir()]


def _fetch(style: Style, cache: Path) -> None:
    npm = shutil.which("npm")
    wanted = f"{style.package}@{style.version}"
    if npm is None:
        raise InputError(
            f"npm, which fetches {wanted}, is not installed: install it, or give a folder of the packages by --packages"
        )
    cache.mkdir(parents=True, exist_ok=True)
    print(f"fetching {wanted}")
    # scripts of packages are not run by `npm pack NAME`; the flag says so for every version of npm
    command = [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(cache), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (cache / f"{_stem(style)}-{style.version}.tgz").is_file():
        said = one_line(done.stderr or done.stdout)[:300] or f"exit code {done.returncode}"
        raise InputError(
            f"npm could not fetch {wanted} ({said}): look at the network, or give a folder by --packages"
        )


def read_icons(style: Style, package: Package, allowed: Collection[str] = ALLOWED) -> IconSet:
    """The icons of a package of Iconify's. InputError for a licence that is not `allowed`, and for other packages."""
    info, about = package.table("info.json"), package.table("package.json")
    try:
        licence, author = info["license"], info["author"]
        names = {str(about["license"]), str(licence["spdx"])}
        if not names <= set(allowed):
            raise InputError(
                f"{style.package} is under {' and '.join(sorted(names))}, expected one of {', '.join(allowed)}: leave "
                f"the style {style.word} out, or take the licence by --allow"
            )
        whole = package.table("icons.json")
        chars = package.table("chars.json")
        return IconSet(
            style,
            version=str(about["version"]),
            licence=str(licence["spdx"]),
            licence_url=str(licence.get("url", "")),
            title=str(info["name"]),
            author=str(author["name"]),
            url=str(author.get("url", "")),
            icons=_icons(whole),
            by_code={plain_code(code): str(name) for code, name in chars.items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{package.path} is no package of Iconify's as expected ({type(error).__name__}: {one_line(error)}): "
            f"fetch {style.package} again"
        ) from error


def plain_code(code: str) -> str:
    """Code points in lower case, without variation selectors and leading zeros."""
    points = (point.lower().lstrip("0") for point in code.split("-"))
    return "-".join(point for point in points if point != "fe0f")


def _icons(whole: dict[str, Any]) -> dict[str, Icon]:
    """KeyError, TypeError or ValueError for what is not Iconify's JSON."""
    found: dict[str, Icon] = {}
    for name, icon in whole["icons"].items():
        sides = {"left": 0, "top": 0, "width": 16, "height": 16, **whole, **icon}
        box = tuple(float(sides[side]) for side in ("left", "top", "width", "height"))
        # `hidden` are names of the past, whose pictures may be others' by now
        if not icon.get("hidden") and _is_shapes(str(icon["body"])):
            found[name] = Icon(name, str(icon["body"]), box, False)  # type: ignore[arg-type]
    for name, alias in whole.get("aliases", {}).items():
        parent = found.get(alias["parent"])
        turned = set(alias) - {"parent", "hFlip", "hidden"}
        if parent is not None and not turned and not alias.get("hidden"):
            found.setdefault(name, Icon(parent.name, parent.body, parent.box, bool(alias.get("hFlip"))))
    return found


def _is_shapes(body: str) -> bool:
    """True if an SVG draws the same everywhere: no text, whose font is the machine's, and nothing from files."""
    return not re.search(r"<(text|image|foreignObject|script)\b|href=\"(?!#)|url\((?!#)", body)
