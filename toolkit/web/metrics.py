"""Numbers of a server in the text format of Prometheus.

Imports nothing heavy.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field

from toolkit.web.worker import Worker


@dataclass(eq=False)
class Metrics:
    """Counts of requests, besides what queue and worker know themselves."""

    began: float = field(default_factory=time.time)
    refused: dict[str, int] = field(default_factory=dict)
    """Refused requests, by reason."""

    def refuse(self, reason: str) -> None:
        """Count a refused request."""
        self.refused[reason] = self.refused.get(reason, 0) + 1

    def text(self, worker: Worker) -> str:
        """All numbers."""
        drawn = worker.drawing.counts if worker.drawing is not None else None
        lines = [
            *_metric("glide_queue_jobs", "gauge", "Jobs that are not over", {"": len(worker.queue)}),
            *_metric("glide_queue_waiting", "gauge", "Jobs that wait", {"": worker.queue.waiting}),
            *_metric(
                "glide_jobs_total",
                "counter",
                "Jobs that are over",
                {f'{{kind="{k}",outcome="{o}"}}': n for (k, o), n in sorted(worker.outcomes.items())},
            ),
            *_metric(
                "glide_refused_total",
                "counter",
                "Requests that were refused",
                {f'{{reason="{reason}"}}': count for reason, count in sorted(self.refused.items())},
            ),
            *_metric("glide_stored_bytes", "gauge", "Bytes of pictures in memory", {"": worker.store.bytes}),
            *_metric("glide_ready", "gauge", "1 once a model is loaded", {"": int(worker.ready)}),
            *_metric("glide_start_time_seconds", "gauge", "When the server began", {"": self.began}),
            *_metric("process_resident_memory_bytes", "gauge", "Resident memory", {"": resident_bytes()}),
        ]
        if drawn is not None:
            lines += _metric("glide_pictures_total", "counter", "Pictures drawn", {"": drawn.pictures})
            lines += _metric(
                "glide_sampling_seconds_total", "counter", "Time of sampling", {"": drawn.sampling_seconds}
            )
            lines += _metric(
                "glide_preview_seconds_total", "counter", "Time of previews", {"": drawn.preview_seconds}
            )
            lines += _metric("glide_loops_total", "counter", "Sampling loops", {"": drawn.calls})
            lines += _metric("glide_loop_rows_total", "counter", "Pictures in these", {"": drawn.rows})
        return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, words: str, values: dict[str, float]) -> list[str]:
    lines = [f"# HELP {name} {words}.", f"# TYPE {name} {kind}"]
    return lines + [f"{name}{of} {value:.10g}" for of, value in values.items()]


def resident_bytes() -> int:
    """Memory of this process that is in use; 0 where the system does not say."""
    if sys.platform != "linux":
        return 0
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
