"""Jobs of several visitors drawn in one network call, where each picture stays the same bit for bit.

Rounding may depend on the number of rows of a network call (glide/networks/fixed_batch.py): on some processors and
number types it does, on others it does not. So the first time that a model is called with so many rows for given
settings, a few steps are taken with them together and alone; only where all bits agree is it done. Each picture then
is that of `scripts/sample.py` with its seed. Or the operator fixes the size of all calls: then each picture has the
place of its seed in its call, and is that of `scripts/sample.py --call-size N`, whoever else is drawn beside it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace

import torch

from glide.networks.image_request import ImageRequest
from glide.utils.images import to_uint8
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.web.draw_request import DrawRequest
from toolkit.web.drawing import Drawing, requests_of, sized
from toolkit.web.jobs import Job

MOST = 8
"""Pictures in one network call."""
PROBE_STEPS = 3


@dataclass(eq=False)
class Together:
    """Draws jobs together. fixed: pictures in all network calls; None: as many as changes no bit."""

    fixed: int | None = None
    _exact: dict[Hashable, bool] = field(default_factory=dict)
    """Where rows do not change each other's rounding, by model, settings and number of rows."""

    @property
    def most(self) -> int:
        """Jobs that are taken from the queue at once."""
        return self.fixed or MOST

    def place(self, job: Job) -> int:
        """The place of a job's picture in calls of a fixed size."""
        return job.request.seed % self.fixed if self.fixed else 0

    def draw(self, jobs: Sequence[Job], with_: Drawing) -> None:
        """Draw jobs of one key, each of one picture. InputError for what cannot be drawn, which ends all of them."""
        request = jobs[0].request
        pipe = with_.models.pipe(request.model)
        settings = request.settings(pipe.conditioner.has_null)
        if self.fixed:
            self._draw_call(jobs, with_, pipe, settings)
            return
        left = list(jobs)
        while left:
            size = next((n for n in sizes_for(len(left)) if self.exact(pipe, request, settings, n)), 1)
            self._draw_call(left[:size], with_, pipe, settings)
            left = left[size:]

    def exact(self, pipe: Pipeline, request: DrawRequest, settings: SamplingConfig, rows: int) -> bool:
        """True where so many rows in one call get the bits that each gets alone; tried once, in a few steps."""
        key = (request.model, settings, rows, torch.get_num_threads())
        if key not in self._exact:
            steps = min(PROBE_STEPS, pipe.steps(settings))
            probe = replace(settings, respacing=str(steps))
            pictures = [
                ImageRequest(i, request.caption, None if request.label is None else 0) for i in range(rows)
            ]
            alone = [_last(sized(pipe, 1, 1), [one], probe) for one in pictures]
            self._exact[key] = torch.equal(_last(sized(pipe, rows, rows), pictures, probe), torch.cat(alone))
        return self._exact[key]

    def _draw_call(
        self, jobs: Sequence[Job], with_: Drawing, pipe: Pipeline, settings: SamplingConfig
    ) -> None:
        """Draw the pictures of some jobs in one loop, whose network calls they fill."""
        asked = [requests_of(job.request, pipe, settings, with_.store) for job in jobs]
        pictures = [found[0] for found, _ in asked]
        run = sized(pipe, self.fixed or len(jobs), len(jobs))
        rows, places = pictures, list(range(len(jobs)))
        if self.fixed:
            places = [self.place(job) for job in jobs]
            by_place = dict(zip(places, pictures, strict=True))
            rows = [by_place.get(place, pictures[0]) for place in range(self.fixed)]
        steps = pipe.steps(settings)
        for job in jobs:
            job.begin(steps)
        step, _ = with_.follow(jobs, run.draw(rows, settings), pipe)
        with_.counts.rows += len(jobs)
        pixels = to_uint8(step.x)
        named = run if self.fixed else sized(pipe, 1, 1)  # by which scripts/sample.py draws it again
        for job, place, picture, (_, entries) in zip(jobs, places, pictures, asked, strict=True):
            if job.asked == "cancel":
                job.end("cancelled")
                continue
            recipe = named.recipe(picture, settings, place if self.fixed else 0) | entries
            job.end("done", pictures=(with_.keep(pixels[place], recipe),))


def sizes_for(jobs: int) -> list[int]:
    """The numbers of pictures in one network call, 2 to MOST, that are tried for so many jobs, the largest first.

    Where rounding depends on the number of rows, small ones may still agree.
    """
    return [n for n in dict.fromkeys((min(jobs, MOST), 4, 2)) if 1 < n <= jobs]


def _last(pipe: Pipeline, pictures: Sequence[ImageRequest], settings: SamplingConfig) -> torch.Tensor:
    """x after the last step, [N,C,H,W]."""
    for step in pipe.draw(pictures, settings):
        last = step.latents
    return last.clone()
