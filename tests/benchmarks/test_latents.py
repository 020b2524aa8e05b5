"""The benchmark of latents: it runs, and says what it is measured against."""

from pathlib import Path

import pytest

from benchmarks.latents import Latents, training
from glide.checkpoints.load import save_model
from support.latent import latent_model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*longer than")
def test_it_measures_training(tmp_path: Path) -> None:
    save_model(tmp_path / "model", latent_model())
    machine, loop, ahead, encode = training(
        Latents(str(tmp_path / "model"), batch_size=2, pictures=3, repeats=1, memory=False)
    )
    assert "batches of 2" in machine and loop.startswith("encoded in the loop: ")
    assert ahead.startswith("encoded ahead: ") and "of the time" in ahead
    assert encode.startswith("to encode: ") and "KiB a picture" in encode
