"""The state of a server, which all of its routes share.

Imports nothing heavy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from glide.utils.errors import InputError
from toolkit.web.jobs import JobQueue
from toolkit.web.metrics import Metrics
from toolkit.web.picture_store import PictureStore
from toolkit.web.served_models import ServedModels
from toolkit.web.worker import Worker


@dataclass(eq=False)
class ServerState:
    """Queue, pictures, models and the worker of one server."""

    worker: Worker
    metrics: Metrics = field(default_factory=Metrics)
    grace_left: float = 3.0
    """Seconds that the jobs of a closed tab are kept, for one that is only loaded again."""
    grace_lost: float = 30.0
    """Seconds that the jobs of a lost connection are kept."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    decoders: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """Pictures that are decoded at once: each may take some hundred megabytes."""
    sockets: int = 0
    runs: dict[str, Path] = field(default_factory=dict)
    """Folders of training runs that are watched, by label."""

    @property
    def queue(self) -> JobQueue:
        return self.worker.queue

    @property
    def store(self) -> PictureStore:
        return self.worker.store

    @property
    def models(self) -> ServedModels:
        return self.worker.models

    def check_ready(self) -> None:
        """InputError where no model could be loaded; while it is being loaded, jobs wait."""
        if self.worker.failure:
            raise InputError(self.worker.failure)
