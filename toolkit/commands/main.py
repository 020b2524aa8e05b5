"""The commands: one table, from which the scripts, the `glide` command and its help are made."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.printable import say
from glide.utils.program import as_called, called_as, words_of
from glide.version import __version__


@dataclass(frozen=True)
class Command:
    """A command, by the names of its parts: nothing of it is imported before it is called."""

    script: str
    """Name of its script, without .py."""
    summary: str
    """One line of `glide --help`."""
    flags: str
    """module:name of the dataclass of its flags, or of a function (argv, description) -> arguments of `run`. The
    module's docstring is the description in --help. Imports no torch."""
    run: str
    """module:name of the function that does the work. Imported once the flags are right."""

    @property
    def words(self) -> str:
        """The words after `glide`: "sample", "train base"."""
        return words_of(self.script)


def _command(script: str, flags: str, function: str, summary: str, module: str = "") -> Command:
    """A command whose flags module bears the name of its script. flags, function: names in the modules.

    module: that of the function, where it is not called as the script.
    """
    own = f"toolkit.commands.{script}"
    return Command(script, summary, f"{own}_flags:{flags}", f"{module or own}:{function}")


COMMANDS: dict[str, tuple[Command, ...]] = {
    "draw": (
        _command("sample", "parse", "sample", "draw pictures of captions or classes"),
        _command("inpaint", "parse", "inpaint_file", "inpaint a region of a picture"),
        _command("upsample", "Upsample", "upsample", "enlarge pictures with an upsampler"),
        _command("interpolate", "Interpolate", "interpolate", "go from one picture or caption to another"),
        _command(
            "settings_grid", "SettingsGrid", "settings_grid", "pictures over the values of two settings"
        ),
        _command("serve", "Serve", "serve", "a page to draw and edit on, and an images interface"),
    ),
    "train": (
        _command(
            "train_auto", "TrainAuto", "train_auto", "train on pictures of your own: plan, stages, report"
        ),
        _command("train_base", "parse", "train", "train a text- or class-conditional model"),
        _command("train_upsampler", "parse", "train", "train an upsampler"),
        _command(
            "train_autoencoder", "parse", "train", "train an autoencoder, the first stage of latent diffusion"
        ),
        _command("train_prior", "parse", "train", "train a prior: from captions to image embeddings"),
        _command(
            "train_classifier",
            "parse",
            "train_classifier",
            "train a noisy classifier, for guidance",
            "guidance.classifier.train",
        ),
        _command(
            "train_clip", "parse", "train_clip", "train a noisy CLIP, for guidance", "guidance.clip.train"
        ),
        _command("distill", "parse", "distill", "distil a model: guidance in one call, fewer steps"),
        _command("posthoc_ema", "Posthoc", "posthoc", "choose the length of a weight average after training"),
    ),
    "measure": (
        _command("evaluate", "Evaluate", "evaluate", "prompt fidelity, judged by an oracle"),
        _command(
            "evaluate_inpainting",
            "EvaluateInpainting",
            "evaluate_inpainting",
            "fidelity of inpainting, judged by an oracle",
        ),
        _command(
            "evaluate_conditions",
            "EvaluateConditions",
            "evaluate_conditions",
            "fidelity to maps, judged by an oracle",
        ),
        _command(
            "evaluate_images",
            "EvaluateImages",
            "evaluate_images",
            "distances between pictures, and memorisation",
        ),
        _command("compare", "Compare", "compare", "pictures of several models compared by people"),
        _command("evaluate_upsampler", "EvaluateUpsampler", "evaluate_upsampler", "PSNR of an upsampler"),
        _command("reconstruct", "Reconstruct", "reconstruct", "PSNR and SSIM of an autoencoder"),
        _command("guidance_sweep", "Sweep", "sweep", "guidances: fidelity against diversity"),
        _command("solver_sweep", "SolverSweep", "solver_sweep", "samplers: fidelity against network calls"),
        _command("nll", "Nll", "nll", "bits per dimension of pictures"),
        _command("binding", "Bind", "bind", "facts of its captions that a model uses"),
    ),
    "data and models": (
        _command("check_data", "CheckData", "check_data", "check a data set, with a contact sheet"),
        _command("convert", "Convert", "convert", "convert a published OpenAI checkpoint"),
        _command("cache", "Cache", "cache", "published models: list, fetch, remove"),
        _command(
            "verify_published",
            "VerifyPublished",
            "verify_published",
            "fetch published models, draw with each, write hashes",
        ),
        _command("export", "Export", "export", "write a model for another library, diffusers"),
        _command("share", "Share", "share", "give a trained model to others, on the hub or as a zip"),
    ),
}
"""By the headings of `glide --help`."""

BY_WORDS = {command.words: command for group in COMMANDS.values() for command in group}
OTHER_NAMES = {
    "generate": "sample",
    "draw": "sample",
    "txt2img": "sample",
    "img2img": "sample",
    "edit": "inpaint",
    "enlarge": "upsample",
    "upscale": "upsample",
    "finetune": "train base",
    "autotrain": "train auto",
    "sampler-sweep": "solver-sweep",
    "web": "serve",
    "gui": "serve",
    "ui": "serve",
    "webui": "serve",
    "eval": "evaluate",
    "fid": "evaluate-images",
    "metrics": "evaluate-images",
    "push": "share",
    "upload": "share",
    "publish": "share",
}
"""Words of other tools -> the command here."""
HELP = ("--help", "-h", "help")


def script(name: str) -> Callable[..., None]:
    """The `main` of scripts/NAME.py, which takes its arguments, by default the process's."""
    command = BY_WORDS[words_of(name)]

    def main(argv: Sequence[str] | None = None) -> None:
        call(command, argv)

    return main


def call(command: Command, argv: Sequence[str] | None) -> None:
    """Read the flags and do the work. InputError for flags that do not parse or do not fit; --help exits with 0."""
    module = import_module(command.flags.partition(":")[0])
    flags, description = _named(command.flags), as_called(module.__doc__ or "")
    if isinstance(flags, type):
        args: Any = parse(flags, description, argv)
        if hasattr(args, "check"):
            args.check()
        parsed: tuple[Any, ...] = (args,)
    else:
        parsed = flags(argv, description)
    _named(command.run)(*parsed)  # imports torch, only once the flags are right


def main() -> NoReturn:
    """The `glide` command. Exits as `glide.utils.cli.run`."""
    run(lambda: dispatch(sys.argv[1:]))


def dispatch(argv: Sequence[str], launcher: str = "glide") -> None:
    """Run the command that the arguments name. launcher: the words before it on the command line.

    InputError for an unknown command, with the nearest one.
    """
    words = list(argv)
    if words[:1] == ["help"] and len(words) > 1:
        words = [*words[1:], "--help"]
    if not words or words[0] in HELP:
        say(_help(launcher), result=True)
        return
    if words[0] == "--version":
        say(f"glide {__version__}", result=True)
        return
    for length in (2, 1):
        command = BY_WORDS.get(" ".join(words[:length]))
        if command is not None:
            called_as(launcher, command.words, words[length:])
            call(command, words[length:])
            return
    below = {name: command for name, command in BY_WORDS.items() if name.startswith(f"{words[0]} ")}
    if below and (len(words) == 1 or words[1] in HELP):
        say(_lines(list(below.values())), result=True)
        return
    raise InputError(_unknown(words, below, launcher))


def _unknown(words: Sequence[str], below: dict[str, Command], launcher: str) -> str:
    """The sentence for an unknown command. below: commands of two words that begin with the first word."""
    written = words[0]
    if below:
        written = " ".join(words[:2])
        near = difflib.get_close_matches(written, below, 1, 0.0)
    else:
        word = written.removesuffix(".py").replace("_", "-").lower()
        names = {name.replace(" ", "-"): name for name in BY_WORDS} | {"train": "train base"} | OTHER_NAMES
        near = [names[name] for name in difflib.get_close_matches(word, names, 1, 0.6)]
    expected = f"expected {near[0]}" if near else "expected another command"
    return f"got {written!r}, which {launcher} does not have, {expected}: see {launcher} --help"


def _help(launcher: str) -> str:
    lines = [f"glide {__version__}: guided diffusion in PyTorch", "", f"usage: {launcher} COMMAND [FLAGS]"]
    for heading, commands in COMMANDS.items():
        lines += ["", f"{heading}:", _lines(commands)]
    lines += ["", f"{launcher} COMMAND --help: its flags, with examples. {launcher} --version: the version."]
    return "\n".join(lines)


def _lines(commands: Sequence[Command]) -> str:
    width = max(len(name) for name in BY_WORDS)
    return "\n".join(f"  {command.words:{width}}  {command.summary}" for command in commands)


def _named(reference: str) -> Any:
    """The object that "module:name" refers to."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
