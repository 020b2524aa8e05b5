"""benchmarks/guidance.py at tiny size: what is measured, and of which networks."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import guidance
from glide.networks.config import ModelConfig
from glide.networks.presets import PRESETS
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS, ClassifierConfig
from guidance.classifier.load import load_classifier
from support.models import tiny_unet

QUICK = guidance.Costs(batch_size=2, steps=2, repeats=1, dtype="float32", device="cpu")


def multiples(text: str) -> dict[str, float]:
    """Each line's multiple of the unguided step, by its name."""
    found = re.findall(r"^(\S.*?) +[\d.]+ ms a picture and step, ([\d.]+) times none$", text, re.MULTILINE)
    return {name: float(number) for name, number in found}


def test_each_guidance_is_a_multiple_of_none(text_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [guidance.Case(line, line, guidance.Options()) for line in ("none", "cfg:3", "pag:2")]
    guidance.measure(QUICK, str(text_folder), cases)
    found = multiples(capsys.readouterr().out)
    assert list(found) == ["none", "cfg:3", "pag:2"] and found["none"] == 1.0 and min(found.values()) > 0.0


@pytest.mark.slow
def test_a_published_size_with_both_classifiers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = tiny_unet(6)  # the noise and its variance, as ADM's
    monkeypatch.setitem(PRESETS, "adm-64", ModelConfig(wide, num_classes=4))
    published = ClassifierConfig(replace(wide, out_channels=3, channels=64, head_channels=64), 4)
    monkeypatch.setitem(CLASSIFIERS, "adm-64", published)
    model, cases = guidance.random_networks("adm-64", tmp_path)
    guidance.measure(QUICK, model, cases)
    assert list(multiples(capsys.readouterr().out)) == [
        "none",
        "classifier, published",
        "classifier, of its size",
    ]
    widths = [load_classifier(str(case.options.classifier)).config.encoder.channels for case in cases[1:]]
    assert widths == [64, 32]


def test_no_steps_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["guidance.py", "--steps", "0"])
    with pytest.raises(InputError, match="got --steps 0, expected a whole number of at least 1"):
        guidance.main()
