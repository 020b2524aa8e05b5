"""The embedded models paint in: the asked thing, in 64x64 and in 256x256, and every known pixel stays."""

from pathlib import Path

import inpaint as script  # scripts/inpaint.py
import numpy as np
import pytest
import torch
from PIL import Image

from glide.shapes.dataset import held_out_scenes
from glide.shapes.oracle import Oracle
from glide.shapes.render import render
from glide.utils.cli import run
from glide.utils.images import read_recipe, save_png
from toolkit.evaluation.inpainting import cases, paint_and_judge
from toolkit.pipelines.inpaint import plan
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig


@pytest.mark.slow
def test_it_paints_what_is_asked_for() -> None:
    pipe = Pipeline.from_pretrained("shapes", "cpu", torch.bfloat16, call_size=8)
    found = cases(16, seed=1)
    how = plan(
        pipe, found[0].unknown(64), SamplingConfig("ddim", "25", 0.0, "cfg", 3.0), context=float("inf")
    )
    assert how.method == "model"
    answers = list(paint_and_judge(pipe, found, how, batch_size=8, seed=1))
    assert sum(answer.holds["right"] for answer in answers) >= 14


@pytest.mark.slow
def test_both_stages_by_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture of 200x200: what is known stays bit for bit, and the new is painted at 256x256, and right."""
    scene = next(s for s in held_out_scenes(50, ("one",)) if s.things[0].x > 0.5 + s.things[0].radius)
    photo = Image.fromarray(render([scene], 200)[0])
    photo.save(tmp_path / "photo.png")
    told = ["--image", str(tmp_path / "photo.png"), "--out", str(tmp_path / "new.png"), "--box", "0,0,90,90"]
    told += ["--prompt", "a green star in the top left corner", "--context", "inf", "--upsampler", "shapes"]
    how = "--steps 25 --upsample-respacing 8 --dtype bfloat16 --call-size 1"
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([*told, *how.split()]))
    assert end.value.code == 0, capsys.readouterr().err
    old, new = (np.array(Image.open(tmp_path / name)) for name in ("photo.png", "new.png"))
    assert new.shape == (200, 200, 3)
    assert np.array_equal(new[90:], old[90:]) and np.array_equal(new[:, 90:], old[:, 90:])
    recipe = read_recipe(tmp_path / "new.png")
    assert recipe["method"] == "model" and recipe["painted_at"] == 256
    found = Oracle().read(new).things
    assert ("star", "green") in {(thing.shape, thing.color) for thing in found}
    again = ["--trust-recipe", "--like", str(tmp_path / "new.png"), "--out", str(tmp_path / "again.png")]
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main(again))
    assert (
        end.value.code == 0 and (tmp_path / "again.png").read_bytes() == (tmp_path / "new.png").read_bytes()
    )
    other = {**recipe, "upsampler": {**recipe["upsampler"], "weights": "0"}}
    save_png(tmp_path / "other.png", torch.from_numpy(new), other)
    with pytest.raises(SystemExit) as end:
        run(
            lambda: script.main(
                ["--trust-recipe", "--like", str(tmp_path / "other.png"), "--out", str(tmp_path / "x.png")]
            )
        )
    assert end.value.code == 2 and "the upsampler shapes has other weights" in capsys.readouterr().err
