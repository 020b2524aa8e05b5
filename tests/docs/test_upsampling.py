"""docs/upsampling.md does what it says: its commands parse, its code runs, its tables are complete."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest
import torch

from glide.networks.model import Model
from glide.utils import cli as cli
from support.sample_script import ROOT
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.evaluate_upsampler_flags import EvaluateUpsampler
from toolkit.commands.sample_flags import parse
from toolkit.commands.upsample_flags import Upsample
from toolkit.commands.upscale_flags import StageArgs
from upsampler.presets import UPSAMPLERS
from upsampler.train_flags import TrainUpsampler

PAGE = (ROOT / "docs/upsampling.md").read_text("utf-8")
FLAGS = {
    "upsample.py": Upsample,
    "train_upsampler.py": TrainUpsampler,
    "evaluate.py": Evaluate,
    "evaluate_upsampler.py": EvaluateUpsampler,
}


def commands(text: str) -> list[tuple[str, list[str]]]:
    found = re.findall(r"^python scripts/(\w+\.py) (.*)$", text, re.MULTILINE)
    return [(name, shlex.split(flags)) for name, flags in found]


@pytest.mark.slow
def test_commands_parse() -> None:
    seen = set()
    for name, flags in commands(PAGE):
        seen.add(name)
        if name in FLAGS:
            args = cli.parse(FLAGS[name], None, flags)
            assert isinstance(args, FLAGS[name])
        elif name == "sample.py":
            args, _ = parse(flags, None)
            assert args.second.size is not None
        else:
            assert name == "convert.py"
    assert {*FLAGS, "sample.py"} <= seen


@pytest.mark.slow
def test_every_flag_and_preset_is_in_the_tables() -> None:
    flags = {f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(StageArgs)} - {"--upsampler-vocab"}
    assert all(flag in PAGE for flag in flags)
    for name, config in UPSAMPLERS.items():
        with torch.device("meta"):
            millions = sum(p.numel() for p in Model(config).parameters()) / 1e6
        conditions = {
            "captions": config.reads_captions,
            "classes": config.num_classes,
            "noise": config.low_res_noise,
        }
        words = ", ".join(word for word, there in conditions.items() if there)
        size = f"{config.low_res_size}, {config.unet.image_size}"
        shown = f"{millions:.1f}" if millions < 10 else f"{millions:.0f}"
        assert f"| `{name}` | {size} | {words} | {shown} M |" in PAGE


@pytest.mark.slow
def test_the_code_runs(upsampler_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert '"shapes"' in block
    space: dict[str, torch.Tensor] = {}
    exec(compile(block.replace('"shapes"', repr(str(upsampler_folder))), "docs/upsampling.md", "exec"), space)
    assert space["large"].shape == (96, 160, 3)
