"""The figure of the forward process is q(x_t given x_0) of each schedule; the article's model trains on IDX files."""

import struct

import forward_process as figure
import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.load import load_model
from glide.diffusion.noise_schedules import make_process
from glide.utils.errors import InputError
from toolkit.commands.main import script

train = script("train_base")
CELL = 112  # pixels of a picture of 28, four times as large


@pytest.fixture
def fashion(tmp_path) -> str:
    """Twelve pictures in three classes; picture 1 is of one grey, 191."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28)).astype(np.uint8)
    pixels[1] = 191
    for name, array in (("images", pixels), ("labels", np.arange(12, dtype=np.uint8) % 3)):
        header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
        (tmp_path / f"train-{name}-idx{array.ndim}-ubyte").write_bytes(header + array.tobytes())
    return f"idx:{tmp_path}"


def test_each_cell_is_the_picture_at_its_noise(fashion, tmp_path):
    out = tmp_path / "forward.png"
    figure.main(["--data", fashion, "--picture", "1", "--timesteps", "0", "299", "--out", str(out)])
    pixels = np.asarray(Image.open(out))[..., 0].astype(float)
    noise = torch.randn((1, 1, 28, 28), generator=torch.Generator().manual_seed(0)).numpy()
    step = pixels.shape[0] - 4 * (CELL + 4)  # of the line of words above
    for row, schedule in enumerate(("linear", "quadratic", "sigmoid_betas", "cosine")):
        alpha_bar = make_process(schedule, 300, betas=(1e-4, 0.02)).alpha_bar
        for column, t in enumerate((0, 299)):
            x_t = alpha_bar[t] ** 0.5 * (191 / 127.5 - 1) + (1 - alpha_bar[t]) ** 0.5 * noise[0, 0]
            expected = np.clip((x_t + 1) * 127.5, 0, 255)
            found = None
            for top in range(step + row * (CELL + 4) - 8, step + row * (CELL + 4) + 9):
                left = pixels.shape[1] - (2 - column) * (CELL + 4)
                for start in range(left - 8, left + 9):
                    cell = pixels[top : top + CELL : 4, start : start + CELL : 4][:28, :28]
                    if cell.shape == (28, 28) and np.abs(cell - expected).max() <= 1:
                        found = (top, start)
            assert found, (schedule, t)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--timesteps", "300"], "expected some from 0 to 299"),
        (["--schedule", "quartic"], "expected some of linear"),
        (["--picture", "12"], "expected one from 0 to 11"),
    ],
)
def test_what_there_is_not_is_named(fashion, tmp_path, flags, message):
    with pytest.raises(InputError, match=message):
        figure.main(["--data", fashion, "--out", str(tmp_path / "x.png"), *flags])


@pytest.mark.slow
def test_the_article_s_model_learns_from_idx_files(fashion, tmp_path):
    sizes = [
        "--preset",
        "annotated-28",
        "--unet.channels",
        "8",
        "--unet.num-heads",
        "2",
        "--unet.patch-size",
        "2",
    ]
    levels = ["--unet.channel-mult", "1", "2", "--batch-size", "4", "--steps", "2", "--device", "cpu"]
    article = ["--loss", "huber", "--lr", "1e-3", "--warmup", "0", "--clip", "0", "--ema", "0", "--flip"]
    train([*sizes, *levels, *article, "--data", fashion, "--unconditional", "--out", str(tmp_path / "run")])
    config = load_model(tmp_path / "run").config
    assert (config.process.steps, config.process.betas, config.num_classes) == (300, (1e-4, 0.02), 0)
    assert (tmp_path / "run/samples/0000002.png").is_file()
