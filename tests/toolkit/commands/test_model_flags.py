"""Any model by flags or a file: each is trained for a few steps and sampled, by the scripts' own `main`."""

import dataclasses
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sample as sample_script
import train_base as train_script
import train_classifier as classifier_script
import train_clip as clip_script
import train_upsampler as upsampler_script
from PIL import Image

from glide.checkpoints.load import load_model, save_model
from glide.networks.config import FirstStageConfig, ModelConfig
from glide.networks.frozen_text_config import FrozenTextConfig
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.student_config import StudentConfig
from glide.training.train_base_flags import MODEL_FLAGS
from glide.utils.config_flags import flag_of
from support.data_files import picture
from support.sample_script import Capture, refused
from support.scripts import call

QUICK = (
    *("--preset", "tiny", "--steps", "2", "--batch-size", "2", "--dtype", "float32", "--log-every", "1"),
    *("--sample-every", "9", "--validation-batches", "0", "--device", "cpu"),
    *("--lr", "0.01", "--warmup", "1", "--ema", "0.5"),
)
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def shown(capture: Capture, *argv: object, script: ModuleType = train_script) -> str:
    """The output of --show-config."""
    capture.readouterr()
    assert call(script, *argv, "--show-config") == 0
    return capture.readouterr().out


MODELS = {
    "quadratic": ("--process.schedule", "quadratic"),
    "sigmoid": ("--process.schedule", "sigmoid"),
    "v-prediction": ("--process.prediction", "v"),
    "eps-prediction": ("--process.prediction", "eps"),
    "zero terminal SNR": ("--process.zero-terminal-snr", "--process.prediction", "v"),
    "one channel": ("--unet.in-channels", "1"),
    "four channels": ("--channels", "4"),
    "T = 300": ("--process.steps", "300"),
    "learned variance": ("--process.variance", "learned"),
    "everything": (
        *("--process.schedule", "sigmoid", "--process.steps", "300", "--process.prediction", "v"),
        *("--process.zero-terminal-snr", "true", "--process.variance", "learned", "--unet.in-channels", "4"),
        *("--unet.channels", "64", "--unet.channel-mult", "1", "1", "2", "--unet.attention", "4"),
        *("--unet.self-condition", "--text.width", "48", "--text.pooled", "mean"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_any_configuration_is_trained_and_sampled(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call(train_script, *QUICK, *MODELS[name], "--out", out) == 0
    config = load_model(out).config
    _, given = MODEL_FLAGS.take(MODELS[name])
    if "--channels" in MODELS[name]:
        given["unet.in_channels"] = 4
    found = MODEL_FLAGS.values(config)
    assert {key: found[key] for key in given} == given
    assert all(json.loads(line)["loss"] > 0 for line in (out / "log.jsonl").read_text().splitlines())
    flags = ("--model", out, "--prompt", "a red circle", "--steps", "3", "--out", tmp_path / "o")
    assert call(sample_script, *flags, "--device", "cpu") == 0
    with Image.open(tmp_path / "o/00000.png") as drawn:
        assert drawn.mode == MODES[config.unet.in_channels] and drawn.size == (16, 16)
        assert np.asarray(drawn).std() > 0


def test_zero_terminal_snr_without_a_prediction_for_it(tmp_path: Path, capsys: Capture) -> None:
    flags = ("--process.zero-terminal-snr", "--process.prediction", "eps", "--out", tmp_path / "run")
    refused(call(train_script, *QUICK, *flags), capsys, "got zero_terminal_snr with prediction eps")
    assert not (tmp_path / "run").exists()


def test_preset_then_file_then_flags(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "model.toml"
    file.write_text(
        "[process]\nsteps = 300\nschedule = 'sigmoid'\n[unet]\nchannels = 64\nchannel_mult = [1, 2]\n"
    )
    flags = ("--preset", "tiny", "--config", file, "--process.schedule", "linear", "--dropout", "0.1")
    lines = shown(capsys, *flags).splitlines()
    assert 'schedule = "linear"  # --process.schedule' in lines
    assert f"steps = 300  # {file}" in lines and f"channels = 64  # {file}" in lines
    assert "image_size = 16  # preset tiny" in lines and "zero_terminal_snr = false  # default" in lines
    assert "dropout = 0.1  # --dropout" in lines
    assert "# num_classes = 0  # set by the data" in lines
    assert {line for line in lines if line.startswith("[")} == {"[model]", "[unet]", "[text]", "[process]"}


@pytest.mark.parametrize("preset", ["tiny", "adm-128", "small-32"])
def test_what_is_shown_can_be_given_back(preset: str, tmp_path: Path, capsys: Capture) -> None:
    """On top of any preset: every value is in it, but those that the data set."""
    first = shown(capsys, "--preset", preset, "--process.steps", "300", "--unet.in-channels", "1")
    (tmp_path / "model.toml").write_text(first)
    second = shown(capsys, "--preset", "shapes-64", "--config", tmp_path / "model.toml")

    def values(text: str) -> list[str]:
        lines = [line.split("  #")[0] for line in text.splitlines()]
        return [line for line in lines if not line.startswith("#")]

    assert values(first) == values(second)
    assert "preset shapes-64" not in "".join(
        line for line in second.splitlines() if not line.startswith("# ")
    )


@pytest.mark.slow
def test_a_model_without_text(tmp_path: Path, capsys: Capture) -> None:
    assert "[text]" not in shown(capsys, "--preset", "tiny", "--model.text", "false")
    assert "width = 512  # default" in shown(capsys, "--preset", "small-32", "--model.text", "true")
    assert "width = 64  # --text.width" in shown(capsys, "--preset", "small-32", "--text.width", "64")
    assert call(train_script, *QUICK, "--model.text", "false", "--out", tmp_path / "run") == 0
    assert load_model(tmp_path / "run").text is None


REFUSED = {
    ("--unet.chanels", "3"): "got --unet.chanels, which is no setting, expected --unet.channels",
    ("--unet.channels", "wide"): "got --unet.channels 'wide', expected a whole number",
    ("--unet.channels", "1"): "got --unet.channels 1, expected a whole number from 2 to 65536",
    ("--unet.channels",): "got --unet.channels without its value",
    ("--unet.channels", "33"): "66 channels (channel_mult 2) cannot be split into attention heads",
    (
        "--unet.local",
        "--unet.head-channels",
        "3",
    ): "64 channels (channel_mult 2) cannot be split into attention heads",
    ("--unet.in-channels", "2"): "unet.in_channels has 2 channels, which no picture has",
    (
        "--unet.out-channels",
        "4",
    ): "got out_channels 4 for in_channels 3 and variance fixed_small, expected 6 or 3",
    ("--unet.channel-mult", "1", "x"): "got --unet.channel-mult 'x', expected a number",
    ("--unet.local", "maybe"): "got --unet.local 'maybe', expected true or false",
    ("--unet.channels", "64", "65"): "got '65', expected a flag before it",
    ("--unet.local=maybe",): "got --unet.local 'maybe', expected true or false",
    ("--unet.patch-size", "3"): "got --unet.patch-size '3', expected one of 1, 2, 4",
    ("--unet.image-size", "18"): "image_size 18 is halved 1 times",
    ("--text.width", "33"): "got text.width 33, expected a multiple of text.heads 2",
    ("--model.text", "false", "--text.width", "64"): "got text.width 64 with model.text false",
    ("--process.schedule", "straight"): "got --process.schedule 'straight', expected one of 'linear'",
    ("--process.schedule", "linear", "--process.steps", "10"): "got 10 steps of the linear schedule",
    ("--model.low-res",): "got low_res, a model that enlarges pictures",
    ("--channels", "1", "--unet.in-channels", "4"): "got both --channels and --unet.in-channels 4",
    ("--model.null-class",): "got null_class without classes",
}


@pytest.mark.slow
@pytest.mark.parametrize("flags", REFUSED, ids=" ".join)
def test_a_configuration_that_cannot_be(flags: tuple[str, ...], tmp_path: Path, capsys: Capture) -> None:
    said = REFUSED[flags]
    refused(call(train_script, *QUICK, *flags, "--out", tmp_path / "run"), capsys, said)
    assert not (tmp_path / "run/config.json").exists()
    if flags != ("--model.null-class",):  # the data could have classes
        refused(call(train_script, "--preset", "tiny", *flags, "--show-config"), capsys, said)


FILES = {
    "[unet]\nchanels = 3": "got the unknown setting 'unet.chanels', expected unet.channels",
    "[unet]\nchannels = 'wide'": "got unet.channels 'wide', expected a whole number",
    "[unet]\nchannel_mult = 2": "got unet.channel_mult 2, expected a list",
    "channels = 3": "got 'channels' at the top, expected the tables [model] or [unet] or [text] or [image_",
    "[net]\nchannels = 3": "got 'net' at the top",
    "unet = 3": "got 'unet' at the top",
    "[unet": "is no TOML file",
    "[unet]\nchannels = " + 5000 * "9": "is no TOML file",
    "a = " + 100_000 * "[": "is no TOML file",
    "\xff": "is no TOML file",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_be(text: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "model.toml"
    path.write_bytes(text.encode("latin-1"))
    refused(call(train_script, "--config", path, "--show-config"), capsys, FILES[text])
    refused(call(train_script, "--config", tmp_path / "none.toml", "--show-config"), capsys, "none.toml")


@pytest.mark.slow
def test_what_the_data_decide(tmp_path: Path, capsys: Capture) -> None:
    flags = (*QUICK, "--out", tmp_path / "run")
    said = "got --model.num-classes 10, expected 0, which the data set: leave it out"
    refused(call(train_script, *flags, "--model.num-classes", "10"), capsys, said)
    for name in ("cat", "dog"):
        picture(tmp_path / "set" / name / "0.png")
    classes = (*flags, "--overwrite", "--data", tmp_path / "set", "--model.num-classes")
    assert call(train_script, *classes, "2", "--model.null-class", "--null-captions", "0") == 0
    assert load_model(tmp_path / "run").config.null_class
    shutil.rmtree(tmp_path / "run")
    capsys.readouterr()
    refused(call(train_script, *classes, "3"), capsys, "got --model.num-classes 3, expected 2")


@pytest.mark.slow
def test_a_run_that_goes_on(tmp_path: Path, capsys: Capture) -> None:
    flags = (*QUICK, "--out", tmp_path / "run", "--process.steps", "300")
    assert call(train_script, *flags) == 0
    more = (*flags, "--resume", "--steps", "3")
    capsys.readouterr()
    said = "--unet.channels 64: this run has 32, which cannot change on the way"
    refused(call(train_script, *more, "--unet.channels", "64"), capsys, said)
    (tmp_path / "model.toml").write_text("[process]\nsteps = 200\n")
    file = ("--config", tmp_path / "model.toml")
    said = f"steps of {tmp_path / 'model.toml'} 200: this run has 300"
    refused(call(train_script, *QUICK, "--out", tmp_path / "run", "--resume", *file), capsys, said)
    assert call(train_script, *more, "--unet.channels", "32") == 0
    text = shown(capsys, "--out", tmp_path / "run", "--resume")
    assert f"steps = 300  # the run in {tmp_path / 'run'}" in text
    record = json.loads((tmp_path / "run/config.json").read_text())["training"]
    assert record["model"] == {"process.steps": 300, "unet.channels": 32}


@pytest.mark.slow
def test_weights_to_begin_with(tmp_path: Path, capsys: Capture) -> None:
    """The configuration of --init in place of a preset's."""
    assert call(train_script, *QUICK, "--unet.dropout", "0.2", "--out", tmp_path / "a") == 0
    flags = QUICK[2:]
    text = shown(capsys, *flags, "--init", tmp_path / "a", "--process.shift", "3")
    assert f"dropout = 0.2  # --init {tmp_path / 'a'}" in text and "shift = 3.0  # --process.shift" in text
    inpaint = ("--init", tmp_path / "a", "--model.inpaint", "--out", tmp_path / "b")
    assert call(train_script, *flags, *inpaint) == 0
    assert load_model(tmp_path / "b").config.inpaint


@pytest.mark.slow
def test_an_upsampler(tmp_path: Path, capsys: Capture) -> None:
    flags = ("--preset", "tiny-upsampler", "--model.scale", "2", "--process.schedule", "quadratic")
    text = shown(capsys, *flags, script=upsampler_script)
    assert "scale = 2  # --model.scale" in text and "# low_res = true  # set by the command" in text
    assert call(upsampler_script, *QUICK[2:], *flags, "--out", tmp_path / "up") == 0
    config = load_model(tmp_path / "up").config
    assert (config.scale, config.low_res_size, config.process.schedule) == (2, 16, "quadratic")
    said = "got --model.low-res-noise false, expected true, which --noise set: leave it out"
    flags = (*flags, "--model.low-res-noise", "false", "--out", tmp_path / "other")
    capsys.readouterr()
    refused(call(upsampler_script, *QUICK[2:], *flags), capsys, said)


GUIDES = {
    "classifier": (
        classifier_script,
        ("--encoder.channels", "64", "--classifier.pool", "adaptive", "--process.steps", "300"),
        {"encoder.channels": 64, "classifier.pool": "adaptive", "process.steps": 300},
    ),
    "clip": (
        clip_script,
        (
            "--image.width",
            "48",
            "--text.layers",
            "2",
            "--clip.embedding",
            "16",
            "--process.schedule",
            "sigmoid",
        ),
        {"image.width": 48, "text.layers": 2, "clip.embedding": 16, "process.schedule": "sigmoid"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GUIDES)
def test_a_guide(name: str, tmp_path: Path, capsys: Capture) -> None:
    script, flags, expected = GUIDES[name]
    quick = ("--preset", "tiny", "--steps", "2", "--batch-size", "2", "--dtype", "float32", "--held-out", "0")
    quick = (*quick, "--data", "shapes:one", "--sample-every", "9", "--device", "cpu")
    (tmp_path / "guide.toml").write_text(shown(capsys, *quick, *flags, script=script))
    out = tmp_path / "run"
    config = ("--config", tmp_path / "guide.toml", "--out", out)
    assert call(script, *quick, *config) == 0
    record = json.loads((out / "config.json").read_text())["model"]
    for key, value in expected.items():
        table, _, field = key.partition(".")
        assert (record if table == name else record[table])[field] == value
    capsys.readouterr()
    said = "--process.steps 200: this run has"
    refused(call(script, *quick, "--out", out, "--resume", "--process.steps", "200"), capsys, said)
    base = tmp_path / "base"
    save_model(base, Model(dataclasses.replace(PRESETS["tiny"], text=None)))
    like = ("--like", base, "--process.shift", "2.0")
    assert "shift = 2.0  # --process.shift" in shown(capsys, *quick, *like, script=script)
    assert f"steps = 1000  # --like {base}" in shown(capsys, *quick, *like, script=script)
    said = f"--process.steps 300: --like {base} has 1000, which cannot change on the way"
    refused(call(script, *quick, *like, "--process.steps", "300", "--show-config"), capsys, said)


def test_every_field_has_a_flag_and_help_names_it(capsys: Capture) -> None:
    parts = {"first_stage": FirstStageConfig(), "text_encoder": FrozenTextConfig(source="bert")}
    parts |= {"image_encoder": ImageEncoderConfig(source="clip"), "student": StudentConfig()}
    config = dataclasses.replace(PRESETS["glide-base"], **parts)  # type: ignore[arg-type]
    fields = {
        f"{part}.{name}"
        for part, values in config.to_dict().items()
        if isinstance(values, dict)
        for name in values
    }
    own = {f"model.{name}" for name, value in config.to_dict().items() if not isinstance(value, dict)}
    own |= {"model.text", "model.first_stage", "model.text_encoder", "model.image_encoder", "model.student"}
    assert set(MODEL_FLAGS.hints) == fields | own
    assert call(train_script, "--help") == 0
    said = re.sub(r"[\s│]+", " ", capsys.readouterr().out)
    for key in MODEL_FLAGS.hints:
        table, _, name = flag_of(key).partition(".")
        assert f"{table}.NAME" in said and name in said
    assert MODEL_FLAGS.apply(config, {}) is config and isinstance(config, ModelConfig)
