"""Grey, RGB and RGBA models from their data to their PNGs, by the Pipeline and by the scripts."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.load import load_model, save_model
from glide.data.datasets import open_data
from glide.networks.config import ModelConfig
from glide.networks.input_planes import plane_count
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.training.config import TrainConfig
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.channels import in_channels, in_mode, on_white
from glide.utils.contact_sheet import write_strip
from glide.utils.errors import InputError
from glide.utils.images import as_image, save_gif, save_png
from guidance.clip import rerank as rerank
from support.data_files import picture
from support.sample_script import call, refused
from toolkit.commands import sample as sample
from toolkit.commands.judged import open_pipeline
from toolkit.commands.judged_flags import JudgedPictures
from toolkit.commands.nll import nll
from toolkit.commands.nll_flags import Nll
from toolkit.pipelines.inpaint import plan
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.training_preview import fill_grid, sample_grid
from upsampler.presets import UPSAMPLERS, check_upsampler

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
CLEAR = Image.fromarray(np.array([[[200, 0, 0, 255], [0, 0, 0, 0]]], np.uint8))  # red, and nothing


def config_of(channels: int, **changes) -> ModelConfig:
    """The smallest preset, without text, for pictures of so many channels."""
    base = PRESETS["tiny"]
    unet = dataclasses.replace(
        base.unet,
        in_channels=channels,
        out_channels=channels * (base.unet.out_channels // base.unet.in_channels),
    )
    return dataclasses.replace(base, unet=unet, text=None, **changes)


@pytest.fixture
def photos(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(8):
        picture(tmp_path / "set" / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (40, 40, 4), dtype=np.uint8)).save(tmp_path / "set" / f"{i}.png")
    return tmp_path / "set"


def test_a_picture_in_each_number_of_channels():
    assert in_mode(CLEAR, 4).mode == "RGBA" and np.array_equal(in_mode(CLEAR, 4), CLEAR)
    assert np.asarray(in_mode(CLEAR, 3)).tolist() == [[[200, 0, 0], [255, 255, 255]]]
    assert np.asarray(in_mode(CLEAR, 1)).tolist() == [[60, 255]]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 50, 50, 3), dtype=np.uint8)
    for channels, mode in MODES.items():
        expected = [np.asarray(Image.fromarray(one).convert(mode)).reshape(50, 50, -1) for one in pixels]
        assert np.array_equal(in_channels(pixels, channels), np.stack(expected))
    with pytest.raises(InputError, match=r"2 channels.* expected 1 \(grey\), 3 \(RGB\) or 4 \(RGBA\)"):
        in_channels(pixels, 2)


@pytest.mark.parametrize("channels", MODES)
def test_data_of_each_kind_has_the_model_s_channels(photos, channels):
    batch = open_data(str(photos), 16, channels=channels, unconditional=True, crop="random").batch(0, 3)
    assert batch["image"].shape == (3, channels, 16, 16) and batch["image"].dtype == torch.uint8
    scenes = open_data("shapes", 16, channels=channels).batch(0, 3)
    assert scenes["image"].shape == (3, channels, 16, 16) and len(scenes["caption"]) == 3


@pytest.mark.parametrize("channels", [0, 2, 5])
def test_other_numbers_of_channels_are_one_sentence(photos, tmp_path, channels):
    for spec in ("shapes", str(photos)):
        with pytest.raises(InputError, match=f"{channels} channels"):
            open_data(spec, 16, channels=channels, unconditional=True)
    with pytest.raises(
        InputError, match=f"--channels has {channels} channels|got --channels {channels}, expected"
    ):
        train_base(TrainBase(tmp_path / "run", preset="tiny", channels=channels))
    if channels:
        with pytest.raises(InputError, match=f"to be written has {channels} channels"):
            save_png(tmp_path / "x.png", np.zeros((4, 4, channels), np.uint8))
        with pytest.raises(InputError, match=f"{channels} channels"):
            Pipeline(Model(config_of(channels)))(num_inference_steps=2)
    assert not (tmp_path / "x.png").exists() and not (tmp_path / "run").exists()


def test_files_are_of_the_mode_of_their_channels(tmp_path):
    for channels, mode in MODES.items():
        pixels = np.full((4, 4, channels), 7, np.uint8)
        save_png(tmp_path / "x.png", pixels)
        with Image.open(tmp_path / "x.png") as saved:
            assert saved.mode == mode and np.array_equal(np.asarray(saved).reshape(pixels.shape), pixels)
        assert as_image(pixels).mode == mode
        save_gif(tmp_path / "x.gif", [pixels, pixels + 1])
        with Image.open(tmp_path / "x.gif") as saved:
            assert saved.n_frames == 2
    assert on_white(Image.new("LA", (1, 1), (9, 0))).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_a_model_is_trained_watched_and_drawn_from(photos, tmp_path, channels):
    out = tmp_path / "run"
    config = TrainConfig(steps=2, batch_size=4, dtype="float32", sample_every=2, log_every=1)
    args = TrainBase(
        out,
        str(photos),
        preset="tiny",
        channels=channels,
        unconditional=True,
        held_out=0.2,
        device="cpu",
        workers=1,
        train=config,
    )
    model = train_base(args, sample_grid)
    assert model.config.unet.in_channels == channels and model.text is None
    with Image.open(out / "samples" / "0000002.png") as grid:
        assert grid.mode == MODES[channels]
    more = dataclasses.replace(config, steps=3)  # flags of what is in the folder may be left out
    again = TrainBase(out, str(photos), resume=True, held_out=0.2, device="cpu", workers=1, train=more)
    assert train_base(again, sample_grid).config.unet.in_channels == channels
    assert json.loads((out / "config.json").read_text())["training"]["unconditional"] is True

    drawn = Pipeline.from_pretrained(out, "cpu")(num_inference_steps=2, init_image=CLEAR, strength=1.0)
    assert drawn.images[0].mode == MODES[channels]
    flags = [
        "--model",
        str(out),
        "--out",
        str(tmp_path / "o"),
        "--num-samples",
        "2",
        "--respacing",
        "2",
        "--device",
        "cpu",
        "--grid",
        "--gif",
    ]
    assert call(*flags) == 0
    with Image.open(tmp_path / "o" / "00001.png") as saved:
        assert saved.mode == MODES[channels]
    assert nll(Nll(out, data=str(photos), images=2, batch_size=2, respacing="3")) > 0


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_a_model_that_inpaints_has_as_many_known_planes(tmp_path, channels):
    model = Model(config_of(channels, inpaint=True))
    assert plane_count(model.config) == channels + 1
    batch = open_data("shapes", 16, channels=channels).batch(0, 2)
    size = model.config.unet.image_size
    batch["image"] = batch["image"][..., :size, :size]
    fill_grid(model, tmp_path / "x.png", batch | {"inpaint_mask": torch.ones(2, 1, size, size)})
    with Image.open(tmp_path / "x.png") as grid:
        assert grid.mode == "RGB"  # with captions below: transparency lies on white


@pytest.mark.slow
def test_what_takes_rgb_alone_says_so(tmp_path, capsys):
    save_model(tmp_path / "grey", Model(config_of(1)))
    flags = ["--model", str(tmp_path / "grey"), "--size", "64", "--upsampler", "shapes", "--device", "cpu"]
    refused(call(*flags, "--out", tmp_path / "o"), capsys, "channels and")
    pipe = Pipeline(Model(config_of(1)))
    unknown = np.zeros((16, 16), bool)
    unknown[4:8, 4:8] = True
    with pytest.raises(InputError, match="got a model of 1 channels, expected one for RGB"):
        plan(pipe, unknown, SamplingConfig("ddim", "2", 0.0, "none"))
    grey = dataclasses.replace(UPSAMPLERS["shapes-upsampler"], unet=config_of(1).unet)
    with pytest.raises(InputError, match="pictures of 1 channels, expected 3"):
        check_upsampler(grey, "grey")
    assert load_model(tmp_path / "grey").config.unet.in_channels == 1
    with pytest.raises(InputError, match="1 channels, expected 3, for colours are judged"):
        open_pipeline(JudgedPictures(str(tmp_path / "grey"), device="cpu"), captions=False)


@pytest.mark.parametrize("channels", MODES)
def test_clip_is_shown_rgb(monkeypatch, channels):
    seen = []
    monkeypatch.setattr(rerank, "rerank", lambda clip, images, caption, keep: seen.append(images) or [0])
    pixels = torch.full((4, 2, 2, channels), 255, dtype=torch.uint8)
    assert rerank.best_places(None, pixels, ["a", "b"]) == [0, 2]
    assert [one.shape for one in seen] == [(2, 3, 2, 2)] * 2 and bool((seen[0] == 1).all())


def test_a_strip_leaves_out_what_is_no_picture(tmp_path):
    save_png(tmp_path / "0000001.png", np.zeros((8, 8, 1), np.uint8))
    (tmp_path / "0000002.png").write_bytes(b"no picture")
    assert write_strip(tmp_path, 8) == tmp_path / "strip.png"
    (tmp_path / "0000001.png").unlink()
    assert write_strip(tmp_path, 8) is None
