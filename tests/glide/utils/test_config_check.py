"""The one check of configurations: every field by its type and range, before anything is built."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from glide.checkpoints.load import load_model, save_model
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.utils import memory as memory
from glide.utils.config_check import checked, config_from_dict
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS, ClassifierConfig
from guidance.clip.config import CLIPS, ClipConfig
from upsampler.presets import UPSAMPLERS

ALL = {"model": PRESETS | UPSAMPLERS, "classifier": CLASSIFIERS, "clip": CLIPS}
KINDS: dict[str, Any] = {"model": ModelConfig, "classifier": ClassifierConfig, "clip": ClipConfig}


@pytest.mark.parametrize("kind", ALL)
def test_all_presets_are_read_back(kind: str) -> None:
    for config in ALL[kind].values():
        values = json.loads(json.dumps(asdict(config)))
        assert config_from_dict(KINDS[kind], values, kind) == config == checked(config, kind)


BAD = [
    ("unet.num_heads", 0.5, "got model.unet.num_heads 0.5, expected a whole number from 1 to 65536: "),
    ("text.width", -1, "got model.text.width -1, expected a whole number from 1"),
    ("process.shift", [1, 2], "got model.process.shift [1, 2], expected a finite number from 0.001 to 1000"),
    ("process.shift", 1e300, "got model.process.shift 1e+300, expected a finite number"),
    ("num_classes", -1, "got model.num_classes -1, expected a whole number from 0"),
    (
        "process.steps",
        1e10,
        "got model.process.steps 10000000000.0, expected a whole number from 1 to 100000",
    ),
    ("process.steps", 3, "got 3 steps of the linear schedule, expected more than 20"),
    ("text.layers", 2e9, "got model.text.layers 2000000000.0, expected a whole number from 0 to 1000"),
    (
        "unet.num_res_blocks",
        1e9,
        "got model.unet.num_res_blocks 1000000000.0, expected a whole number from 1 to 100",
    ),
    ("unet.num_res_blocks", True, "got model.unet.num_res_blocks True, expected a whole number"),
    ("unet.channel_mult", [1] * 3000, "got model.unet.channel_mult with 3000 entries, expected at most 12"),
    ("unet.channel_mult", [], "got no channel_mult"),
    ("unet.channel_mult", [1, "2"], "got model.unet.channel_mult[1] '2', expected a finite number"),
    ("unet.channel_mult", 3, "got model.unet.channel_mult 3, expected a list"),
    ("unet.channels", 48, "96 channels (channel_mult 2) cannot be split into attention heads"),
    ("unet.image_size", 63, "image_size 63 is halved 3 times in patches of 1, expected a multiple of 8"),
    ("unet.patch_size", 3, "got model.unet.patch_size 3, expected one of 1, 2, 4"),
    ("unet.patch_size", True, "got model.unet.patch_size True, expected one of"),
    ("unet.scale_shift", 1, "got model.unet.scale_shift 1, expected true or false"),
    ("unet.out_channels", 4, "got out_channels 4 for in_channels 3 and variance learned, expected 6"),
    ("unet.dropout", 1.5, "got model.unet.dropout 1.5, expected a finite number from 0 to 1"),
    ("text.heads", 7, "got text.width 512, expected a multiple of text.heads 7"),
    ("text.pooled", "max", "got model.text.pooled 'max', expected one of 'last', 'mean'"),
    ("process.schedule", ["linear"], "got model.process.schedule ['linear'], expected one of"),
    ("unet", None, "model.unet: got null, expected a table of settings"),
    ("unet", [], "model.unet: got a list, expected a table of settings"),
    ("text", 5, "model.text: got a number, expected a table of settings"),
    ("colour", 1, "model: unknown setting 'colour'; known are unet, text"),
    ("class_names", ["a"], "got 1 class_names for 0 classes"),
    ("class_names", [1], "got model.class_names[0] 1, expected a text"),
    ("null_class", True, "got null_class without classes"),
    ("low_res_noise", True, "got low_res_noise without low_res"),
    ("process.zero_terminal_snr", True, "got zero_terminal_snr with prediction eps"),
    ("scale", 0, "got model.scale 0, expected a whole number from 2 to 256"),
]


@pytest.mark.parametrize(("name", "value", "said"), BAD, ids=lambda value: str(value)[:24])
def test_bad_values(name: str, value: Any, said: str) -> None:
    config = asdict(PRESETS["glide-base"])
    config["process"]["schedule"] = "linear"
    change(name, value)(config)
    with pytest.raises(InputError, match=re.escape(said)) as error:
        ModelConfig.from_dict(json.loads(json.dumps(config)))
    assert len(str(error.value)) < 400


def test_numbers_of_other_types_are_taken() -> None:
    config = asdict(PRESETS["glide-base"])
    change("unet.channels", 192.0)(config)
    change("process.shift", 1)(config)
    assert ModelConfig.from_dict(config) == PRESETS["glide-base"]


def test_a_picture_that_memory_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    config = asdict(PRESETS["glide-base"])
    change("unet.image_size", 16384)(config)
    monkeypatch.setattr(memory, "available_memory", lambda: 8 * 2**30)
    with pytest.raises(
        InputError,
        match=r"got image_size 16384, which needs 1,344\.0 GiB for one picture, expected .* 8\.0 GiB",
    ):
        ModelConfig.from_dict(config)


def test_a_folder_that_lies_is_refused_at_once(tmp_path: Path) -> None:
    save_model(tmp_path / "m", Model(PRESETS["tiny"]))
    path = tmp_path / "m/config.json"
    whole = json.loads(path.read_text())
    for name, value in (
        ("process.steps", 1e10),
        ("text.layers", 2e9),
        ("unet.num_res_blocks", 1e9),
        ("unet", "x" * 9**6),
    ):
        record = copy.deepcopy(whole)
        change(name, value)(record["model"])
        path.write_text(json.dumps(record))
        started = time.process_time()
        with pytest.raises(InputError, match=r"config\.json describes no model that can be built: ") as error:
            load_model(tmp_path / "m")
        assert len(str(error.value)) <= 500 and time.process_time() - started < 5


def change(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(config: dict[str, Any]) -> None:
        *tables, last = name.split(".")
        for table in tables:
            config = config[table]
        config[last] = value

    return apply
