"""What the class of a built-in scene is. Imports nothing, so that flags can name it."""

from __future__ import annotations

from typing import Literal

Target = Literal["shape", "color"]
