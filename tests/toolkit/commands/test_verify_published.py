"""`glide verify-published`: made models of every kind are fetched, drawn with, hashed, and compared with a report."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import verify_published as script  # scripts/verify_published.py
from PIL import Image

from glide.checkpoints.load import load_model
from glide.checkpoints.provenance import fingerprint
from glide.utils.images import to_uint8
from support.openai_nets import tiny_state
from support.published import Made, as_file, made_models, tiny_classifier
from support.sample_script import Capture, refused
from support.scripts import call
from toolkit import Pipeline
from toolkit.commands.verify_published import CAPTIONS, CLASSIFIER_SCALES, _small

QUICK = ("--steps", "2", "--pictures", "2", "--device", "cpu")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.chdir(tmp_path)
    with made_models(monkeypatch, tmp_path / "cache") as made:
        yield made


def report(folder: str) -> dict:
    return dict(json.loads(Path(folder, "verified.json").read_text("utf-8")))


def test_models_of_classes_and_their_classifier(made: Made, capsys: Capture) -> None:
    made.adm()
    made.classifier("classifier-64")
    made.patch.setitem(CLASSIFIER_SCALES, "adm-64", 999_999.0)  # the random one hardly steers
    assert call(script, "adm-64", *QUICK, "--out", "one") == 0
    found = report("one")["models"]["adm-64"]
    content = as_file(tiny_state())
    (file,) = found["files"]
    assert file["sha256"] == hashlib.sha256(content).hexdigest() and file["bytes"] == len(content)
    assert found["weights"] == fingerprint(load_model("adm-64"))
    drawn = Pipeline.from_pretrained("adm-64", "cpu", "float32")(label=[1, 0], seed=0, num_inference_steps=2)
    pixels = to_uint8(drawn.tensors)[0]
    assert found["pictures"][0]["request"] == "class 1"
    assert found["pictures"][0]["sha256"] == hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    assert found["pictures"][0]["thumbnail"] == _small(pixels)
    with Image.open("one/adm-64.png") as sheet:
        assert sheet.width > 32
    assert (
        call(script, "adm-64", "classifier-64", *QUICK, "--out", "two", "--against", "one/verified.json") == 0
    )
    assert (
        "adm-64: 2 of 2 pictures are the same bit for bit, thumbnails differ by 0" in capsys.readouterr().out
    )
    guided = report("two")["models"]["classifier-64"]
    assert guided["weights"] != found["weights"] and guided["settings"]["guidance"] == "classifier:999999"
    assert guided["pictures"] != found["pictures"]
    refused(call(script, "adm-64", *QUICK, "--out", "one"), capsys, "already holds results")


def test_glide_and_its_upsampler(made: Made, capsys: Capture) -> None:
    made.glide()
    made.glide("glide-upsampler", "glide_upsampler")
    quick = ("--steps", "1", "--pictures", "1", "--device", "cpu", "--out", "one", "--remove")
    assert call(script, "glide", "glide-upsampler", *quick) == 0
    found = report("one")["models"]
    assert found["glide"]["pictures"][0]["request"] == CAPTIONS[0] and len(found["glide"]["files"]) == 3
    with Image.open("one/glide-upsampler.png") as sheet:
        assert sheet.width >= 256
    assert not list(Path("cache/models").iterdir())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("sha256", "adm-64 has other files"),
        ("weights", "adm-64 has other weights"),
        ("settings", "adm-64 was drawn with other settings"),
        ("thumbnail", "thumbnails of adm-64 differ by 9"),
        ("pictures", "got a report without the facts of adm-64"),
        (None, "expected a JSON object"),
    ],
)
def test_another_report_is_told_apart(made: Made, capsys: Capture, fault: str | None, said: str) -> None:
    made.adm()
    assert call(script, "adm-64", *QUICK, "--out", "one") == 0
    facts = report("one")
    model = facts["models"]["adm-64"]
    if fault == "sha256":
        model["files"][0]["sha256"] = "0"
    elif fault == "weights":
        model["weights"] = "0"
    elif fault == "settings":
        model["settings"]["steps"] = 3
    elif fault == "thumbnail":
        numbers = bytearray.fromhex(model["pictures"][0]["thumbnail"])
        numbers[0] += 9 if numbers[0] < 128 else -9
        model["pictures"][0]["thumbnail"] = numbers.hex()
    elif fault == "pictures":
        del model["pictures"]
    else:
        facts["models"] = []
    Path("there.json").write_text(json.dumps(facts))
    capsys.readouterr()
    assert call(script, "adm-64", *QUICK, "--out", "two", "--against", "there.json") == 2
    assert said in capsys.readouterr().err


def test_bad_input(made: Made, capsys: Capture) -> None:
    refused(call(script, "adm-65", *QUICK), capsys, "there is no published model 'adm-65'")
    made.adm()
    made.server.files.clear()
    assert call(script, "adm-64", *QUICK) == 2
    assert "or connect" in capsys.readouterr().err


def test_a_thumbnail_is_the_mean_of_its_parts() -> None:
    pixels = torch.zeros(8, 8, 3, dtype=torch.uint8)
    pixels[:2, :2] = torch.tensor([40, 80, 120], dtype=torch.uint8)
    pixels[6:, 6:, 2] = 200
    found = np.frombuffer(bytes.fromhex(_small(pixels)), np.uint8).reshape(4, 4, 3)
    assert (
        found[0, 0].tolist() == [40, 80, 120] and found[3, 3].tolist() == [0, 0, 200] and found.sum() == 440
    )


def test_the_classifier_of_the_test_has_the_models_classes() -> None:
    assert len(tiny_classifier()[1]["out.2.c_proj.weight"]) == 3
