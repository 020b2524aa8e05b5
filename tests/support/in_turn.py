"""Scripts that run in this process one after the other, where a process each would only cost its start.

python tests/support/in_turn.py COMMANDS: runs each of a JSON file's [["PORT", "script.py", "--flag", ...]], and ends
with the first that fails. Processes of the same PORT (and WORLD_SIZE) train together.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def run_script(argv: list[str]) -> None:
    """Run it as Python would. SystemExit, as it ends."""
    sys.argv = [str(SCRIPTS / argv[0]), *argv[1:]]
    runpy.run_path(sys.argv[0], run_name="__main__")


def main() -> None:
    sys.path.insert(0, str(SCRIPTS))
    for port, *argv in json.loads(Path(sys.argv[1]).read_text()):
        os.environ["MASTER_PORT"] = port
        try:
            run_script(argv)
        except SystemExit as end:
            if end.code:
                sys.exit(f"{argv} ended with {end.code}")
        if "accelerate" in sys.modules:
            from accelerate import PartialState

            PartialState._reset_state()  # else the next one would be in the process group that this one has left


if __name__ == "__main__":
    main()
