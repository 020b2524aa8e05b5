"""Command lines of every script: numbers in their ranges, words of other tools, and one sentence for every mistake."""

import dataclasses
import math
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
from tyro.conf import UseAppendAction, arg

from glide.data.datasets import open_data
from glide.diffusion.samplers.registry import SAMPLERS, translate_sampler, translate_spacing
from glide.training.config import TrainConfig
from glide.training.distributed import start
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils import cli as cli
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.flag_aliases import ALIASES, SENTENCES, STANDS_FOR, VALUES
from glide.utils.flags import Flag, flags_of, prepare
from glide.utils.memory import available_memory, check_memory
from glide.utils.numbers import ANY
from glide.utils.printable import LIMIT, is_quiet, say
from glide.utils.ranges import check_numbers, kinds, range_of
from glide.version import __version__
from guidance.classifier.train_flags import TrainClassifier
from guidance.clip.train_flags import TrainClip
from guidance.options import Options
from toolkit.commands.binding_flags import Bind
from toolkit.commands.check_data_flags import CheckData
from toolkit.commands.compare_flags import Compare
from toolkit.commands.convert_flags import Convert
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.evaluate_inpainting_flags import EvaluateInpainting
from toolkit.commands.evaluate_upsampler_flags import EvaluateUpsampler
from toolkit.commands.export_flags import Export
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.commands.inpaint_flags import Inpaint
from toolkit.commands.interpolate import interpolate
from toolkit.commands.interpolate_flags import Interpolate
from toolkit.commands.nll_flags import Nll
from toolkit.commands.posthoc_ema_flags import Posthoc
from toolkit.commands.sample import sample
from toolkit.commands.sample_flags import Sample
from toolkit.commands.share_flags import Share
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.commands.upsample_flags import Upsample
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from upsampler.train_flags import TrainUpsampler

SCRIPTS = (
    Bind,
    CheckData,
    Compare,
    Convert,
    Evaluate,
    EvaluateInpainting,
    EvaluateUpsampler,
    Export,
    Inpaint,
    Interpolate,
    Nll,
    Posthoc,
    Sample,
    Share,
    SolverSweep,
    Sweep,
    TrainBase,
    TrainClassifier,
    TrainClip,
    TrainUpsampler,
    Upsample,
)
HOSTILE = (
    "",
    " ",
    "x",
    "nan",
    "-inf",
    "1e999",
    "9" * 5000,
    "-" + "9" * 5000,
    "0x10",
    "1_0",
    "٣",
    "²",
    "1" + "0" * 30,
)
HOSTILE += ("-1e30", "\x1b[31m", "\0", "--", "1,2")


@dataclass
class Args:
    """Flags of every kind."""

    out: Path
    prompt: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="TEXT")] = ()
    num_samples: int = 1
    scale: float | None = None
    betas: tuple[float, float] = (0.5, 0.9)
    steps: int = 5
    timesteps: tuple[int, ...] = (1, 2)
    kinds: tuple[Literal["one", "pair"], ...] = ("one",)
    sampler: str = "ddim"
    dtype: str = "float32"
    grid: bool = False
    noised: bool = True


def parsed(*argv: str) -> Args:
    return cli.parse(Args, "", ["--out", "o", *argv])


def refused(*argv: str) -> str:
    with pytest.raises(InputError) as error:
        cli.parse(Args, "", argv)
    said = str(error.value)
    assert len(said) <= LIMIT and said.isprintable()
    return said


def numbers_of(args: type) -> list[tuple[type, str]]:
    """The fields of numbers of a dataclass and of those in it, with the class of each."""
    own = [(args, name) for name in kinds(args)]
    inner = [field.default_factory() for field in dataclasses.fields(args) if callable(field.default_factory)]
    inner += [field.default for field in dataclasses.fields(args) if dataclasses.is_dataclass(field.default)]
    return own + [pair for one in inner if dataclasses.is_dataclass(one) for pair in numbers_of(type(one))]


@pytest.mark.parametrize("args", SCRIPTS)
def test_every_number_of_every_script_has_a_range(args):
    assert [(owner.__name__, name) for owner, name in numbers_of(args) if range_of(owner, name) is ANY] == []


def test_a_list_without_a_flag_may_stand_around_the_flags():
    parsed = cli.parse(Compare, "", ["a", "--seed", "3", "b", "--answers", "x", "y", "--quality=9", "c"])
    assert parsed.folders == ("a", "b", "c") and parsed.answers == ("x", "y")
    assert (parsed.seed, parsed.quality) == (3, 9)


@pytest.mark.slow
@pytest.mark.parametrize("args", SCRIPTS)
def test_the_flags_are_those_of_help(args, capsys):
    with pytest.raises(SystemExit):
        cli.parse(args, "", ["--help"])
    shown = capsys.readouterr().out
    for flag in flags_of(args).values():
        assert flag.name in shown or flag.positional, f"{flag.name} of {args.__name__}"


@pytest.mark.parametrize("args", SCRIPTS)
def test_hostile_numbers_are_refused_in_one_sentence(args):
    for flag in flags_of(args).values():
        if flag.kind not in (int, float):
            continue
        for text in HOSTILE:
            with pytest.raises(InputError) as error:
                prepare(args, [f"{flag.name}={text}"], None)
            said = str(error.value)
            assert len(said) <= LIMIT and said.isprintable() and flag.name in said


def repr_of(value: object) -> str:
    return "a number of 5000 digits" if isinstance(value, int) and value > 10**100 else repr(value)


@pytest.mark.parametrize("args", SCRIPTS)
def test_defaults_are_in_their_ranges(args):
    needed = {
        f.name: "x" for f in dataclasses.fields(args) if f.default is f.default_factory is dataclasses.MISSING
    }
    check_numbers(args(**needed))


def test_a_class_may_have_a_range_of_its_own():
    many = ["--num-samples=1000000000"]
    with pytest.raises(InputError, match="from 1 to 10000"):
        prepare(Inpaint, many)
    assert prepare(Sample, many) == many


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 10**30, 10**5000, True, "3"], ids=repr_of)
def test_numbers_of_python_callers_are_checked_too(value):
    with pytest.raises(InputError, match="--batch-size"):
        TrainConfig(batch_size=value).check()
    with pytest.raises(InputError, match="--rescale"):
        Options(rescale=value).check()


def test_values_are_read_as_they_are_written():
    args = parsed(
        "--num-samples", "3", "--scale=-0.0", "--betas", "0", ".5", "--timesteps", "3", "4", "5", "--grid"
    )
    assert (args.num_samples, args.betas, args.timesteps, args.grid) == (3, (0.0, 0.5), (3, 4, 5), True)
    assert parsed("--timesteps").timesteps == ()
    assert parsed("--no-noised", "--kinds", "pair", "one").kinds == ("pair", "one")
    assert parsed("--num_samples", "2").num_samples == 2
    assert parsed("--scale", "None").scale is None


@pytest.mark.parametrize(
    "text", ["-a red ring", "- a ring", "-1", "", "a=b", "--a red ring", "~", "a\nb", "None"]
)
def test_captions_may_begin_with_a_dash(text):
    assert parsed("--prompt", text).prompt == (text,) == parsed(f"--prompt={text}").prompt


def test_a_missing_value_says_how_to_write_one_that_begins_with_dashes():
    assert "write --prompt=..." in refused("--out", "o", "--prompt", "--grid")
    assert "--prompt without its value" in refused("--out", "o", "--prompt")
    assert "expected 2 values" in refused("--out", "o", "--betas", "0.1")
    assert "--out PATH" in refused("--grid")


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("--num-sample", "--num-samples"), ("--promt", "--prompt"), ("-x", ""), ("--xyzzy", "")],
)
def test_an_unknown_flag_is_answered_with_the_nearest_one(word, nearest):
    said = refused("--out", "o", word, "3")
    assert f"got {word}, which" in said and f"expected {nearest or 'another flag'}" in said


def test_other_mistakes_are_one_sentence():
    assert "expected a flag before it" in refused("--out", "o", "stray")
    assert "takes no value" in refused("--out", "o", "--grid=1")
    assert "expected one or pair" in refused("--out", "o", "--kinds", "three")
    assert "NUL" in refused("--out", "a\0b")
    assert "expected PATH" in refused("--out", "")
    assert "expected TEXT" in refused("--out", "o", "--sampler", " ")
    assert "UTF-8" in refused("--out", "o", "--prompt", "a \udcff ring")
    assert "UTF-8" in refused("--out", "o", "--prompt", "\ud800")


def test_home_is_found_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert parsed("--out=~/pics").out == tmp_path / "pics"
    assert (
        cli.parse(Sample, "", ["--out=~/a", "--init-image", "~/b.png", "--model=~/m"]).init_image
        == f"{tmp_path}/b.png"
    )
    assert (
        cli.parse(CheckData, "", ["--data=~/a/{0..3}.tar::~/b.tar"]).data
        == f"{tmp_path}/a/{{0..3}}.tar::{tmp_path}/b.tar"
    )
    assert "no user here" in refused("--out=~nobody-of-that-name/x")


def test_words_of_other_tools():
    assert (
        parsed("--cfg", "7").scale
        == 7.0
        == parsed("--cfg-scale=7").scale
        == parsed("--guidance_scale", "7").scale
    )
    assert parsed("--sampling-steps", "9").steps == 9 == parsed("--num-inference-steps", "9").steps
    assert parsed("-p", "a ring", "-n", "2").num_samples == 2
    assert parsed("--plms", "--fp16").sampler == "plms"
    assert parsed("--precision", "FP16").dtype == "float16"
    assert parsed("--xformers").dtype == "float32"
    args = cli.parse(Sample, "", ["--negative-prompt", "blurry", "--denoising-strength", "0.5"])
    assert (args.guiding.negative, args.strength) == ("blurry", 0.5)
    train = cli.parse(
        TrainBase, "", ["--output-dir", "o", "--learning-rate", "1e-3", "--max-train-steps", "7"]
    )
    assert (train.out, train.train.optim.lr, train.train.steps) == (Path("o"), 1e-3, 7)


def test_words_that_mean_nothing_here_are_answered():
    for argv, word in (
        (("-W", "512"), "--size"),
        (("--lora", "x"), "--model"),
        (("--scheduler", "x"), "--sampler"),
    ):
        with pytest.raises(InputError, match=word):
            cli.parse(Sample, "", argv)
    with pytest.raises(InputError, match="--steps of --batch-size"):
        cli.parse(TrainBase, "", ["--out", "o", "--epochs", "3"])
    with pytest.raises(InputError, match="--guidance cfg:SCALE"):
        cli.parse(Upsample, "", ["a.png", "--cfg", "3"])


def test_every_word_stands_for_a_flag_that_there_is():
    every: dict[str, Flag] = {}
    for args in SCRIPTS:
        every |= flags_of(args)
    flags = [*ALIASES.values(), *VALUES, *(word.partition("=")[0] for word in STANDS_FOR.values() if word)]
    flags += [
        word.strip(",:.") for said in SENTENCES.values() for word in said.split() if word.startswith("--")
    ]
    assert set(flags) - set(every) == set()


def test_version_and_quiet(capsys):
    for args in SCRIPTS:
        with pytest.raises(SystemExit) as end:
            cli.parse(args, "", ["--version"])
        assert end.value.code == 0 and capsys.readouterr().out == f"glide {__version__}\n"
    parsed("--quiet")
    assert is_quiet()
    say("of the work")
    say("a result", result=True)
    say("a warning", sys.stderr)
    assert tuple(capsys.readouterr()) == ("a result\n", "a warning\n")
    parsed()
    assert not is_quiet()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 7 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 12 bytes\nat x"),
        RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"),
    ],
)
def test_memory_that_is_not_there_is_one_sentence(error, capsys):
    def main() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        cli.run(main)
    said = capsys.readouterr().err
    assert end.value.code == 2 and said.startswith("error: got no memory") and said.count("\n") == 1


@pytest.mark.parametrize(("free", "said"), [(2**20, True), (2**40, False)])
def test_onednn_without_memory(free: int, said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its message is the same where it has no such operation."""
    monkeypatch.setattr(cli, "available_memory", lambda: free)
    assert cli.ran_out_of_memory(RuntimeError("could not create a primitive")) == said


def test_other_errors_keep_their_traceback():
    def main() -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        cli.run(main)


def test_memory_is_checked_before_it_is_taken():
    free = available_memory()
    assert 0 < free < 2**50
    check_memory(1e6, "--frames 9", "ask for fewer")
    for needed in (free, 1e30, math.inf):
        with pytest.raises(InputError, match=r"got --frames 9, which takes .* GiB .*: ask for fewer"):
            check_memory(needed, "--frames 9", "ask for fewer")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_the_limit_of_the_process_counts(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda which: (2**30, 2**30))
    assert available_memory() < 2**30


@pytest.mark.parametrize(
    ("text", "sampler", "spacing"),
    [
        ("dpm++ 2m karras", "dpmpp-2m", "karras"),
        ("DPM++ 2M Karras", "dpmpp-2m", "karras"),
        ("DPM++ 2M", "dpmpp-2m", None),
        ("DPM++ 2M SDE Exponential", "dpmpp-2m-sde", "log-snr"),
        ("dpmpp_2m", "dpmpp-2m", None),
        ("DPMSolverMultistepScheduler", "dpmpp-2m", None),
        ("euler a", "euler-ancestral", None),
        ("Euler a", "euler-ancestral", None),
        ("k_euler_a", "euler-ancestral", None),
        ("euler_ancestral", "euler-ancestral", None),
        ("EulerAncestralDiscreteScheduler", "euler-ancestral", None),
        ("EulerDiscreteScheduler", "euler", None),
        ("LMS Karras", "lms", "karras"),
        ("k_lms", "lms", None),
        ("PNDMScheduler", "plms", None),
        ("UniPC", "unipc", None),
        ("DDIM", "ddim", None),
        ("Heun", "heun", None),
    ],
)
def test_samplers_by_the_names_of_other_tools(text, sampler, spacing):
    settings = SamplingConfig(text)
    assert (settings.sampler, settings.spacing) == (sampler, spacing)
    assert SamplingConfig(sampler, spacing=spacing) == settings


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_by_their_own_names_stay(name):
    assert translate_sampler(name) == (name, None)
    assert translate_sampler(name.upper().replace("-", "_")) == (name, None)


@pytest.mark.parametrize("text", ["dpm2 a", "lcm", "", "karras", "\x1b[31m", "k", "restart"])
def test_samplers_that_there_are_not_stay_unknown(text):
    assert translate_sampler(text) == (text, None) and text not in SAMPLERS


def test_spacings_by_the_names_of_other_tools():
    assert SamplingConfig(spacing="Karras").spacing == "karras"
    assert SamplingConfig(spacing="exponential").spacing == "log-snr" == translate_spacing("Log_SNR")
    assert translate_spacing("nonsense") == "nonsense"
    assert SamplingConfig("LMS Karras", spacing="karras").spacing == "karras"
    with pytest.raises(InputError, match="expected one spacing"):
        SamplingConfig("LMS Karras", spacing="uniform")


@pytest.mark.parametrize(
    "device", ["hpu", "meta", "privateuseone", "xla", "x", "cuda:99", "\udcff", "9" * 5000, "lazy"]
)
@pytest.mark.parametrize("find", [find_device, start])
def test_devices_that_cannot_be_used(device, find):
    with pytest.raises(InputError, match="cannot be used here") as error:
        find(device)
    assert len(str(error.value)) <= LIMIT and str(error.value).isprintable()


def test_the_device_by_default():
    assert find_device(None) == find_device("auto") == find_device("") == start(None).device
    assert find_device("cpu").type == "cpu"


def test_more_pictures_than_fit_are_refused_before_the_work(text_folder: Path, tmp_path: Path) -> None:
    pipe = Pipeline.from_pretrained(text_folder)
    for ask in (
        lambda: pipe("a", num_images_per_prompt=10**12),
        lambda: Pipeline.from_pretrained(text_folder, call_size=10**12),
        lambda: sample(
            Sample(model=str(text_folder), prompt=("a",), num_samples=10**9, out=str(tmp_path / "o"))
        ),
        lambda: train_base(TrainBase(out=tmp_path / "r", preset="tiny", train=TrainConfig(batch_size=10**9))),
        lambda: open_data("shapes", 64).check_batch(10**9),
        lambda: interpolate(
            Interpolate(str(tmp_path / "s.png"), prompt=("a", "b"), model=str(text_folder), frames=10**9)
        ),
    ):
        with pytest.raises(InputError, match=r"GiB of memory or more, expected what fits"):
            ask()
    assert not (tmp_path / "o").exists() and not (tmp_path / "s.png").exists()


WORDS = (
    *HOSTILE,
    "-a b",
    "a red ring",
    "3",
    "0.5",
    "-1",
    "None",
    "~",
    "~x",
    "=",
    "--=",
    "---",
    "\ud800",
    "\u202e",
    "x" * 10**5,
)


def test_random_command_lines_end_in_flags_or_in_one_sentence(capsys):
    """Of every script, with flags, aliases and values in any order: nothing else is raised."""
    rng = random.Random(20)
    foreign = [*ALIASES, *STANDS_FOR, *SENTENCES, "--quiet", "-q", "--nonsense"]
    read = 0
    for _ in range(3000):
        args = rng.choice(SCRIPTS)
        words = rng.choices([*flags_of(args), *rng.sample(foreign, 5), *WORDS], k=rng.randrange(8))
        argv = [f"{word}={rng.choice(WORDS)}" if rng.random() < 0.3 else word for word in words]
        try:
            prepare(args, argv)
            read += 1
        except InputError as error:
            said = str(error)
            assert 0 < len(said) <= LIMIT and said.isprintable()
    assert 50 < read < 2950
