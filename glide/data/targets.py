"""The property that is the class of a built-in scene. Imports nothing, so that flags can name it."""

from __future__ import annotations

from typing import Literal

Target = Literal["shape", "color"]
