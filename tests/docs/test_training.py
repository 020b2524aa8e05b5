"""docs/training.md: its file is read, its flags are there, its plug-ins are what they are said to be."""

import re
import shlex
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glide.networks.config import ModelConfig
from glide.networks.presets import PRESETS
from glide.training.published_recipes import RECIPES, parse_with_recipe
from glide.training.train_base_flags import MODEL_FLAGS, TrainBase
from support.paths import ROOT
from toolkit.commands.sample_flags import parse as parse_sample
from upsampler.train_flags import TrainUpsampler

PAGE = (ROOT / "docs/training.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_file_and_its_flags(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("toml") if "model.toml" in block]
    (tmp_path / "model.toml").write_text(text)
    settings = MODEL_FLAGS.read_file(tmp_path / "model.toml")
    assert len(settings) == text.count(" = ")
    settings["unet.out_channels"] = MODEL_FLAGS.given({"unet.out_channels": 1})["unet.out_channels"]
    config = MODEL_FLAGS.apply(PRESETS["shapes-32"], settings)
    assert config.process.steps == 300 and config.unet.channel_mult == (1, 2, 2)
    (command,) = [line for block in blocks("") for line in block.splitlines() if "--process.schedule" in line]
    rest, given = MODEL_FLAGS.take(shlex.split(command))
    assert rest[-2:] == ["--out", "runs/grey"] and len(given) == command.count(".") - command.count(".py")


def test_its_plug_ins() -> None:
    (block,) = [block for block in blocks("python") if "charbonnier" in block]
    space: dict[str, Any] = {}
    exec(compile(block, "docs/training.md", "exec"), space)
    assert isinstance(space["wide"], ModelConfig)
    ones = torch.ones(2, 3, 4, 4)
    assert space["charbonnier"](ones, -ones).shape == ones.shape


def test_its_commands_are_read() -> None:
    """Those with a frozen text encoder and Imagen's: every flag is one, and every recipe is there."""
    parsers = {
        "scripts/train_base.py": partial(parse_with_recipe, TrainBase, "train_base", None),
        "scripts/train_upsampler.py": partial(parse_with_recipe, TrainUpsampler, "train_upsampler", None),
    }
    commands = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("python scripts/")]
    wanted = [words for words in commands if "--text-encoder" in words or "--recipe" in words]
    for _, script, *flags in wanted:
        found = parsers[script](flags)
        assert found.text_encoder or found.recipe in RECIPES
    assert len(wanted) == 5
    (draw,) = [words for words in commands if "--threshold" in words]
    args, _ = parse_sample(draw[2:], None)
    assert args.second.size == "256"
