"""Maps of guidances: against shifts that are computed from two drawings, and no change of the picture."""

from pathlib import Path

import pytest
import torch

from glide.diffusion.samplers.base import SeededNoise
from glide.networks.image_request import ImageRequest
from support.web import drawn, files_of, pixels_of, worker_of
from toolkit.pipelines.settings import SamplingConfig
from toolkit.web.guidance_maps import heat
from toolkit.web.worker import Worker

FORM = {"caption": "a red circle", "steps": 5, "seed": 5, "sampler": "ddim"}


@pytest.fixture(scope="module")
def worker(text_folder: Path) -> Worker:
    return worker_of(text_folder)


def test_the_picture_is_the_one_that_is_drawn_without(worker: Worker) -> None:
    form = FORM | {"guidance": ["cfg:2", "pag:1@20-60"]}
    job = drawn(worker, kind="explain", **form)
    assert files_of(worker, job) == files_of(worker, drawn(worker, **form))
    maps = job.shown()["maps"]
    assert [one["name"] for one in maps["guidances"]] == ["cfg:2", "pag:1@20-60"]
    assert (maps["steps"], maps["columns"], maps["size"]) == (5, 3, [8, 8])
    sheets = [pixels_of(worker.store.get(one["id"]).data) for one in maps["guidances"]]
    assert all(sheet.shape == (16, 24, 4) for sheet in sheets)
    perturbed = sheets[1][..., 3].reshape(2, 8, 3, 8).transpose(0, 2, 1, 3).reshape(6, 8, 8)[:5]
    assert perturbed[0].max() == 0  # outside of its interval
    assert perturbed[2].max() > 0


@pytest.mark.parametrize("guidance", ["cfg:3", "cfg:3..1"])
def test_the_first_map_is_the_shift_that_is_computed_by_hand(worker: Worker, guidance: str) -> None:
    """x0 = main + (scale - 1) * (main - null): of two denoisers at the first x, scale 1 and scale 3."""
    job = drawn(worker, kind="explain", **FORM, guidance=[guidance])
    pipe = worker.models.pipes[worker.models.labels[0]]
    found = []
    for scale in (1.0, 3.0):
        settings = SamplingConfig("ddim", "5", guidance=f"cfg:{scale}" if scale > 1 else "none")
        loop = pipe.for_run(1).loop([ImageRequest(5, "a red circle")], settings)
        loop.denoise.x0_maps = []  # before thresholding, as a shift is
        x = SeededNoise([5]).randn((3, 8, 8), torch.device("cpu"))
        found.append(loop.denoise(x, int(loop.process.timesteps[-1])).x0[0])
    lengths = (found[1] - found[0]).square().sum(0).sqrt()
    (map_,) = job.maps["guidances"]
    first = pixels_of(worker.store.get(map_["id"]).data)[:8, :8, 3]
    wanted = heat(lengths[None], map_["most"])[0, ..., 3].numpy()
    assert abs(first.astype(int) - wanted).max() <= 1
    assert map_["most"] >= float(lengths.max()) * (1 - 1e-5)  # this one was computed in another call


def test_a_strength_that_grows_is_seen_to_grow(worker: Worker) -> None:
    """The maps of cfg:1..5 are not those of 5, and the first one is empty: scale 1 is no guidance."""
    job = drawn(worker, kind="explain", **FORM, guidance=["cfg:1..5"])
    assert files_of(worker, job) == files_of(worker, drawn(worker, **FORM, guidance=["cfg:1..5"]))
    (map_,) = job.maps["guidances"]
    sheet = pixels_of(worker.store.get(map_["id"]).data)[..., 3]
    assert sheet[:8, :8].max() == 0 < sheet[8:, 8:16].max()


def test_what_cannot_be_shown(worker: Worker) -> None:
    assert "no guidance to show" in drawn(worker, kind="explain", **FORM, guidance=[]).message
    assert drawn(worker, kind="explain", **FORM | {"steps": 100}).state == "done"
