"""benchmarks/image_embeddings.py: a row for each case, of shares that the oracle gives."""

import re
from dataclasses import replace
from pathlib import Path

import image_embeddings as benchmark
import pytest

from glide.checkpoints.image_encoders import image_encoder_named
from glide.checkpoints.load import save_model
from glide.checkpoints.priors import save_prior
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer
from glide.utils.errors import InputError
from support.image_encoders import write_image_encoder
from support.models import randomised
from support.priors import tiny_prior


@pytest.mark.slow
def test_every_case_has_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, _ = image_encoder_named(f"dinov2:{write_image_encoder(tmp_path / 'dino', 'dinov2')}")
    words = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    tiny = PRESETS["tiny"]
    assert tiny.text is not None
    config = replace(
        tiny, text=replace(tiny.text, vocab=words.n_vocab), image_encoder=encoder, null_condition=True
    )
    save_model(tmp_path / "model", randomised(Model(config, words), seed=1))
    save_model(tmp_path / "plain", randomised(Model(replace(tiny, text=None)), seed=1))
    quick = ("--scenes", "2", "--steps", "2", "--dtype", "float32", "--strengths", "0.5", "1")
    benchmark.main(["--model", str(tmp_path / "model"), *quick])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 + 1
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\w, ]+ \| [\d.]+ \| [\d.]+% of \d+ \| [\d.]+% of 2 \|", line), line
    with pytest.raises(InputError, match=r"a model without image embeddings, expected one of train_base\.py"):
        benchmark.main(["--model", str(tmp_path / "plain"), *quick])


@pytest.mark.slow
def test_drawn_embeddings_are_compared_with_true_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, _ = image_encoder_named("noisy-clip:shapes-clip")
    config = replace(PRESETS["tiny"], text=None, image_encoder=encoder, null_condition=True)
    save_model(tmp_path / "model", randomised(Model(config), seed=1))
    flags = ("--prior", "shapes-prior", "--cases", "cosines", "--scenes", "6", "--dtype", "float32")
    benchmark.main(["--model", str(tmp_path / "model"), *flags])
    last = capsys.readouterr().out.splitlines()[-1]
    own, lowest, unrelated, true = map(float, re.findall(r"\d\.\d+", last))
    assert lowest <= own and own > 0.5 > unrelated and true < 0.6
    save_prior(tmp_path / "prior", tiny_prior())
    with pytest.raises(InputError, match=r"got the prior .* of other embeddings than the model's"):
        benchmark.main(["--model", str(tmp_path / "model"), "--prior", str(tmp_path / "prior")])
