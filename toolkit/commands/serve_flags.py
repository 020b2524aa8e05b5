"""Serve a page on which pictures are drawn, edited and compared, and the images interface of hosted models.

examples:
    python scripts/serve.py
    python scripts/serve.py --model runs/photos --model shapes --port 8000
    python scripts/serve.py --host 0.0.0.0 --auth a-long-random-token
    python scripts/serve.py --run runs/photos

It answers on this machine alone, unless --host says otherwise, and asks nothing of the internet. Needs the extra web:
pip install 'glide-toolkit[web]'.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.numbers import Range
from glide.utils.ranges import check_numbers
from toolkit.commands import shared_flags as shared


@dataclass(frozen=True)
class Serve:
    """The flags."""

    model: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME")] = ()
    """A model that can be chosen, named as in sample.py; repeat the flag for several, the default one first. By default
    the embedded ones."""
    upsampler: Annotated[str | None, arg(metavar="NAME")] = None
    """The model that enlarges. By default the one in each model's folder, or the embedded one of its name."""
    host: str = "127.0.0.1"
    """Address to listen on. One that other machines reach needs --auth."""
    port: Annotated[int, Range(0, 65535, do="7860 is the default, 0 is any free one")] = 7860
    """Port to listen on; 0 for any free one."""
    auth: Annotated[str | None, arg(metavar="TOKEN")] = None
    """A secret of at least 12 letters and digits that visitors give: /?token=TOKEN in a browser, a bearer token in a
    program. The connection is not encrypted: put a reverse proxy with TLS before it."""
    queue: Annotated[int, Range(1, 10_000)] = 50
    """Requests that wait or are drawn, at most; the next one is refused in a sentence."""
    together: Annotated[int | None, Range(1, 64)] = None
    """Pictures in every network call of the images interface, also for one request alone. By default as many as wait,
    up to 8, where that changes no bit of any picture."""
    max_upload: Annotated[int, Range(1, 1024)] = 32
    """Megabytes of a request, at most."""
    run: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FOLDER")] = ()
    """Show the training in this folder live: its curves and progress pictures. Repeat the flag for several."""
    device: shared.Device = "auto"
    dtype: DType = AUTO

    def check(self) -> None:
        """InputError for flags out of their range, an open address without a token, and a guessable token."""
        from toolkit.web.guard import check_access

        check_numbers(self)
        check_access(self.host, self.auth)
        if len(set(self.model)) < len(self.model):
            raise InputError(f"got --model {self.model[0]} twice, expected different models: leave one out")
