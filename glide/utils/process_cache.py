"""The folder in which derived files are kept: $GLIDE_CACHE, or a temporary one of this process."""

import atexit
import os
import shutil
from functools import cache
from pathlib import Path
from tempfile import mkdtemp


def process_cache() -> Path:
    """$GLIDE_CACHE; without it a temporary folder of this process. Nothing is written elsewhere."""
    own = os.environ.get("GLIDE_CACHE")
    return Path(own).expanduser() if own else _temporary()


@cache
def _temporary() -> Path:
    # threads that come at once may make one each, of which all but one stay empty
    folder = mkdtemp(prefix="glide-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
