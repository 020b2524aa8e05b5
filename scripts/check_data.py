"""Check a data set: what is usable, what is broken and why, how large the pictures are, and a captioned contact sheet.

The flags, and examples: --help, and toolkit/commands/check_data_flags.py.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run
from toolkit.commands import check_data_flags as flags


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(flags.CheckData, flags.__doc__, argv)
    from toolkit.commands.check_data import check_data  # torch, only once the flags are right

    check_data(args)


if __name__ == "__main__":
    run(main)
