"""Read a data set: what is usable, what is broken and why, how large the pictures are, and a captioned contact sheet.

examples:
    python scripts/check_data.py --data photos/ --sheet photos.png
    python scripts/check_data.py --data "shards/{0000..0999}.tar" --report report.json --write-index
    python scripts/check_data.py --data shapes:pair --sheet shapes.png --pictures 24
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main(argv: Sequence[str] | None = None) -> None:
    from glide.data.audit import CheckData, check_data

    check_data(parse(CheckData, __doc__, argv))


if __name__ == "__main__":
    run(main)
