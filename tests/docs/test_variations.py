"""docs/variations.md does what it says: its code and its commands run."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.image_encoders import image_encoder_named
from glide.checkpoints.load import save_model
from glide.checkpoints.priors import save_prior
from glide.networks.model import Model
from support.models import randomised
from support.paths import ROOT
from support.priors import tiny_prior
from support.sample_script import call
from toolkit import Pipeline

PAGE = (ROOT / "docs/variations.md").read_text("utf-8")
CODE = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def runs(text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """runs/variations and runs/prior, of the embeddings of the embedded noisy CLIP, and photo.png."""
    monkeypatch.chdir(tmp_path)
    config, _ = image_encoder_named("noisy-clip:shapes-clip")
    whole = replace(text_model.config, image_encoder=config, null_condition=True)
    save_model("runs/variations", randomised(Model(whole, text_model.tokenizer), seed=4))
    save_prior("runs/prior", tiny_prior(encoder=config))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)).save("photo.png")


@pytest.mark.slow
def test_its_code_runs(runs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    quick: Any = Pipeline.__call__
    monkeypatch.setattr(
        Pipeline, "__call__", lambda self, *args, **named: quick(self, *args, num_inference_steps=2, **named)
    )
    assert len(CODE) == 3
    for block in CODE:
        torch.manual_seed(0)
        found: dict[str, Any] = {}
        exec(compile(block, "docs/variations.md", "exec"), found)
        if "embeddings" in found:
            assert found["embeddings"].shape == (2, 128)
    assert Path("variation.png").exists()


@pytest.mark.slow
def test_its_commands_run(runs: None) -> None:
    lines = re.findall(r"^python scripts/sample.py (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 5
    for line in lines:
        assert call(*shlex.split(line), "--steps", "2") == 0
