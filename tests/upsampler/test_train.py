"""Training an upsampler on crops."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, save_model
from glide.data.datasets import open_data
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.training.config import TrainConfig
from glide.utils.contact_sheet import MARGIN, row_height
from glide.utils.errors import InputError
from support.models import CLASSES
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import Upscaler, enlarger
from upsampler.crops import LowResCrops
from upsampler.low_res_config import LowRes
from upsampler.presets import UPSAMPLERS
from upsampler.tiling import in_tiles
from upsampler.train import crop_size, train_upsampler
from upsampler.train_flags import TrainUpsampler

TINY = UPSAMPLERS["tiny-upsampler"]
CONFIG = TrainConfig(
    steps=4, batch_size=4, dtype="float32", log_every=2, save_every=2, sample_every=100, ema=(0.9,)
)


def settings(out: Path, **changes: object) -> TrainUpsampler:
    train = dataclasses.replace(CONFIG, **changes.pop("train", {}))  # type: ignore[arg-type]
    changes = {"preset": "tiny-upsampler", "crop_size": 16, **changes}
    return TrainUpsampler(out=out, train=train, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("upsampler") / "run"
    train_upsampler(settings(out, train={"sample_every": 4}), lambda model: enlarger(model, "float32"))
    return out


@pytest.mark.slow
def test_a_run_is_a_model_that_enlarges(run: Path):
    model = load_model(run)
    config = model.config
    assert config.low_res and config.low_res_noise and config.unet.local and config.unet.image_size == 32
    record = json.loads((run / "config.json").read_text())["training"]
    assert (record["crop_size"], record["low_res"]["noise"], record["step"]) == (16, [0.0, 0.3], 4)
    with Image.open(run / "samples/0000004.png") as sheet:
        # small, enlarged and true, of the batch's four pictures, with their captions
        assert sheet.size == (3 * (96 + 2 * MARGIN), 4 * row_height(96))
    stage = Upscaler(
        Pipeline(model, call_size=1, wrap=in_tiles),
        SamplingConfig("ddim", "3", guidance="none"),
    )
    small = torch.zeros(8, 8, 3, dtype=torch.uint8)
    assert stage.enlarged(small, ImageRequest(0, "a red circle")).shape == (32, 32, 3)


@pytest.mark.slow
def test_resume_is_exact(run: Path, tmp_path: Path):
    class Stop(Exception):
        pass

    def stop(model: Model):
        raise Stop

    with pytest.raises(Stop):
        train_upsampler(settings(tmp_path / "parts", train={"sample_every": 3}), stop)
    train_upsampler(settings(tmp_path / "parts", preset=None, resume=True))
    one, two = (
        load_file(out / "checkpoints/step-0000004/model.safetensors") for out in (run, tmp_path / "parts")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_training_learns(tmp_path: Path):
    """From random weights that draw nothing to better than that, in a few steps."""
    train = {"steps": 50, "batch_size": 8, "log_every": 10, "save_every": 50}
    optim = dataclasses.replace(CONFIG.optim, lr=2e-3, warmup=5)
    train_upsampler(settings(tmp_path / "run", data="shapes:one", train={**train, "optim": optim}))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.slow
def test_class_folders(tmp_path: Path):
    for i, label in enumerate(CLASSES[:2]):
        (tmp_path / "data" / label).mkdir(parents=True)
        for j in range(2):
            Image.new("RGB", (40, 36), (90 * i, 40 * j, 10)).save(tmp_path / "data" / label / f"{j}.png")
    low_res = LowRes(blur=1.0, jpeg=40, reduce=("area", "bicubic"))
    args = settings(tmp_path / "run", data=str(tmp_path / "data"), low_res=low_res, train={"sample_every": 4})
    train_upsampler(args, lambda model: enlarger(model, "float32"))
    config = load_model(tmp_path / "run").config
    assert config.class_names == CLASSES[:2] and config.null_class and config.low_res


@pytest.mark.slow
def test_a_fine_tune_takes_noise_from_now_on(run: Path, tmp_path: Path):
    untold = Model(
        dataclasses.replace(load_model(run).config, low_res_noise=False), load_model(run).tokenizer
    )
    save_model(tmp_path / "untold", untold)
    train_upsampler(settings(tmp_path / "fine", preset=None, init=str(tmp_path / "untold")))
    assert load_model(tmp_path / "fine").config.low_res_noise
    none = LowRes(noise=(0.0, 0.0))
    train_upsampler(settings(tmp_path / "same", preset=None, init=str(tmp_path / "untold"), low_res=none))
    assert not load_model(tmp_path / "same").config.low_res_noise


def test_crop_sizes(tmp_path: Path):
    args = settings(tmp_path / "x", crop_size=None)
    assert crop_size(args, UPSAMPLERS["shapes-upsampler"]) == 64
    assert crop_size(args, TINY) == 32 and crop_size(args, UPSAMPLERS["adm-128-512"]) == 512
    with pytest.warns(UserWarning, match="sees a picture as a whole: of crops of 128"):
        assert crop_size(dataclasses.replace(args, crop_size=128), UPSAMPLERS["glide-upsampler"]) == 128


def test_refusals(tmp_path: Path):
    def refused(said: str, **changes: object) -> None:
        with pytest.raises(InputError, match=said):
            train_upsampler(settings(tmp_path / "x", **changes))
        assert not (tmp_path / "x").exists()

    refused("--crop-size 12: expected a multiple of 8", crop_size=12)
    refused("crops of 40 pixels of pictures of 32", crop_size=40)
    refused("--preset 'shapes-64': expected one of tiny-upsampler", preset="shapes-64")
    refused("--noise 0.5 0.1", low_res=LowRes(noise=(0.5, 0.1)))
    refused("--watched 0", watched=0)
    save_model(tmp_path / "base", Model(dataclasses.replace(PRESETS["tiny"], text=None)))
    refused("which draws and does not enlarge", preset=None, init=str(tmp_path / "base"))


def test_data_for_training_is_of_the_models_size():
    data = LowResCrops(open_data("shapes", 32), LowRes(), 32, 16, 4, 0)
    assert data.whole(0, 2).pixels.shape == (2, 32, 32, 3) and data.whole(0, 2).low_res.shape == (2, 8, 8, 3)
