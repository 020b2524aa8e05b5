"""docs/data.md and the emoji example's README do what they say: their commands parse."""

import re
import shlex

import pytest

from support.paths import ROOT

pytest.importorskip("webdataset")

from build_emoji import BuildEmoji
from build_styles import BuildStyles
from data_loading import DataLoading
from judge_emoji import JudgeEmoji

from glide.networks.presets import PRESETS
from glide.training.train_base_flags import TrainBase
from glide.utils.cli import parse
from toolkit.commands.check_data_flags import CheckData
from upsampler.presets import UPSAMPLERS
from upsampler.train_flags import TrainUpsampler

FLAGS = {
    "scripts/check_data.py": CheckData,
    "scripts/train_base.py": TrainBase,
    "scripts/train_upsampler.py": TrainUpsampler,
    "benchmarks/data_loading.py": DataLoading,
    "examples/emoji/build_emoji.py": BuildEmoji,
    "examples/emoji/build_styles.py": BuildStyles,
    "examples/emoji/judge_emoji.py": JudgeEmoji,
}
PAGES = ("docs/data.md", "examples/emoji/README.md")
CODE = (
    "toolkit/commands/check_data_flags.py",
    "benchmarks/data_loading.py",
    *(f for f in FLAGS if f.startswith("examples")),
)


@pytest.mark.slow
@pytest.mark.parametrize("page", [*PAGES, *CODE])
def test_commands_parse(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    found = [
        shlex.split(line)
        for line in re.findall(r"^ *python ((?:scripts|benchmarks|examples)/.*)$", text, re.M)
    ]
    ours = [(script, flags) for script, *flags in found if script in FLAGS]
    assert ours
    for script, flags in ours:
        assert (ROOT / script).is_file() and isinstance(parse(FLAGS[script], None, flags), FLAGS[script])


def test_every_preset_that_is_named_is_there() -> None:
    for page in (*PAGES, "README.md"):
        named = re.findall(r"--preset (\S+)", (ROOT / page).read_text("utf-8"))
        assert set(named) <= {*PRESETS, *UPSAMPLERS}
