"""A model with a frozen text encoder by the commands: trained, resumed, drawn with, refused where it does not fit."""

import json
import shutil
from pathlib import Path

import pytest
import sample as sample_script
import train_base as train_script

from glide.checkpoints.load import load_model
from glide.utils.cli import run
from support.data_files import picture
from support.sample_script import Capture, refused
from support.text_encoders import write_encoder

QUICK = (
    *("--preset", "tiny", "--batch-size", "2", "--dtype", "float32", "--log-every", "1", "--save-every", "2"),
    *(
        "--sample-every",
        "9",
        "--validation-batches",
        "0",
        "--device",
        "cpu",
        "--ema",
        "0.5",
        "--data",
        "shapes:one",
    ),
)
DRAW = ("--steps", "2", "--dtype", "float32", "--guidance", "cfg", "--scale", "2")


def call(script: object, *argv: object) -> int:
    """Exit code of a script's `main`."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))  # type: ignore[attr-defined]
    assert isinstance(end.value.code, int)
    return end.value.code


def losses(folder: Path) -> list[float]:
    return [
        json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines() if "loss" in line
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("default::UserWarning")
def test_from_training_to_a_picture(work_folder: Path, capsys: Capture) -> None:
    """With cross-attention and kept encodings; resumed, and drawn with after the encoder's folder is gone."""
    write_encoder(Path("bert"), "bert")
    cross = ("--unet.token-attention", "cross", "--text-encoder.context", "24", "--text-encoder.width", "8")
    given = (*QUICK, *cross, "--text-encoder", "bert:bert")
    assert call(train_script, *given, "--steps", 4, "--out", "plain") == 0
    assert call(train_script, *given, "--steps", 4, "--encodings", "dry", "--out", "x", "--dry-run") == 0
    assert not Path("dry").exists()
    kept = (*given, "--encodings", "kept", "--embed-encoder", "--out", "run")
    assert call(train_script, *kept, "--steps", 2) == 0
    shutil.rmtree("bert")
    assert call(train_script, *QUICK, "--encodings", "kept", "--out", "run", "--steps", 4, "--resume") == 0
    assert losses(Path("run")) == pytest.approx(losses(Path("plain")), rel=1e-4)
    draw = ("--model", "run", "--prompt", "a red circle", *DRAW)
    assert call(sample_script, *draw, "--negative-prompt", "a blue square", "--out", "one") == 0
    assert call(sample_script, "--like", "one/00000.png", "--model", "run", "--out", "two") == 0
    assert Path("one/00000.png").read_bytes() == Path("two/00000.png").read_bytes()
    assert call(sample_script, *draw, "--prompt", "red " * 23, "--out", "long") == 0
    assert "the caption is longer than 24 tokens: cut off 'red" in capsys.readouterr().err
    code = call(
        train_script, *QUICK, "--text-encoder", "bert:org/other", "--out", "run", "--steps", 8, "--resume"
    )
    refused(code, capsys, "--text-encoder org/other: this run has bert, which cannot change on the way")


def test_a_configuration_is_shown_and_read_again(work_folder: Path, capsys: Capture) -> None:
    shown = ("--preset", "tiny", "--text-encoder", "t5:org/name@v1", "--text-encoder.context", "32")
    assert call(train_script, *shown, "--show-config") == 0
    config = capsys.readouterr().out
    assert 'source = "org/name@v1"  # --text-encoder' in config and "[text]" not in config
    Path("model.toml").write_text(config)
    assert call(train_script, "--preset", "tiny", "--config", "model.toml", "--show-config") == 0
    again = capsys.readouterr().out
    assert [line.partition("  #")[0] for line in again.splitlines()] == [
        line.partition("  #")[0] for line in config.splitlines()
    ]


@pytest.mark.slow
def test_another_model_begins_with_its_weights(work_folder: Path, capsys: Capture) -> None:
    write_encoder(Path("bert"), "bert")
    write_encoder(Path("other"), "bert", seed=1)
    given = (*QUICK, "--text-encoder.context", "24", "--steps", 2)
    assert call(train_script, *given, "--text-encoder", "bert", "--out", "first") == 0
    fine = (*QUICK, "--init", "first", "--steps", 2)
    assert call(train_script, *fine, "--inpaint", "--out", "fine") == 0
    before, after = (load_model(name).config.text_encoder for name in ("first", "fine"))
    assert before == after and before is not None and before.pooled == "none"
    capsys.readouterr()
    code = call(train_script, *fine, "--text-encoder", "other", "--out", "x")
    refused(code, capsys, "expected that of --init")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--text-encoder", "nowhere"), "got the text encoder 'nowhere', expected clip:ORG/NAME"),
        (("--text-encoder", "t5:bert"), "of the model_type 'bert', expected a t5"),
        (("--text-encoder", "bert", "--text-encoder.context", "64"), "expected at most 48, which bert takes"),
        (("--text-encoder", "bert", "--text-encoder.pooled", "end"), "text_encoder.pooled end for bert"),
        (("--text-encoder", "bert", "--text.width", "32"), "with model.text false"),
        (("--text-encoder", "bert", "--token-captions", "0.2"), "that receives the tokens of captions alone"),
        (("--text-encoder", "bert", "--unconditional"), "which is learned without captions"),
        (("--text-encoder", "bert", "--data", "classes"), "which is learned without captions"),
        (("--encodings", "kept"), "got --encodings for a model whose text encoder is trained"),
        (("--embed-encoder",), "without one, expected --text-encoder"),
        (("--model.text-encoder", "true"), "without one, expected --text-encoder"),
    ],
)
def test_what_does_not_fit_is_refused(
    flags: tuple[str, ...], said: str, work_folder: Path, capsys: Capture
) -> None:
    write_encoder(Path("bert"), "bert")
    for name in ("apple", "pear"):
        for number in range(2):
            picture(Path("classes") / name / f"{number}.png")
    capsys.readouterr()
    refused(call(train_script, *QUICK, "--steps", 1, "--out", "x", *flags), capsys, said)
