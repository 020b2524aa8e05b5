"""Previews of latents: exact where the decoder is affine, and learned from the first picture of a model of latents."""

import io
from pathlib import Path

import pytest
import torch
from PIL import Image

from support.latent import latent_model
from support.web import drawn, files_of, worker_of
from toolkit.pipelines.pipeline import Pipeline
from toolkit.web.draw_request import read_request
from toolkit.web.jobs import Job
from toolkit.web.latent_previews import LatentPreview
from toolkit.web.previews import PreviewBudget


def test_an_affine_decoder_is_found() -> None:
    rng = torch.Generator().manual_seed(0)
    latents, colours = torch.randn(3, 4, 8, 8, generator=rng), 0.3 * torch.randn(4, 3, generator=rng)
    small = torch.einsum("nchw,cd->ndhw", latents, colours) + 0.1
    preview = LatentPreview()
    assert not preview.known
    for part in (slice(0, 1), slice(1, 3)):
        preview.learn(latents[part], small[part].repeat_interleave(4, 2).repeat_interleave(4, 3))
    assert preview.known
    torch.testing.assert_close(preview(latents), small, rtol=0, atol=2e-3)


def test_the_first_picture_teaches_those_after_it(text_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = worker_of(text_folder)
    worker.models.names["latent"] = "latent"
    worker.models.pipes["latent"] = Pipeline(latent_model(), "latent", "float32")
    allows = PreviewBudget.allows
    monkeypatch.setattr(
        PreviewBudget, "allows", lambda self: self.cost is not None and (allows(self) or True)
    )
    form = {"caption": "a red circle", "steps": 4, "model": "latent", "seed": 3}
    seen: list[list[tuple[int, int]]] = []
    files = []
    for _ in range(2):
        job, sizes = Job(read_request(form, worker.models.labels)), list[tuple[int, int]]()

        def look(job: Job = job, sizes: list[tuple[int, int]] = sizes) -> None:
            if job.frame is not None:
                sizes.append(Image.open(io.BytesIO(job.frame.data)).size)

        job.watch(look)
        worker.queue.put(job)
        worker.draw(worker.queue.take(0) or job)
        seen.append(sizes)
        files += files_of(worker, job)
    assert seen[0] == [] and set(seen[1]) == {(8, 8)}
    assert files[0] == files[1] == files_of(worker, drawn(worker, **form, preview=False))[0]
    assert Image.open(io.BytesIO(files[0])).size == (32, 32)
