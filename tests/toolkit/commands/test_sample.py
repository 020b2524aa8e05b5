"""The command line of sampling: what it draws and writes, and that it repeats itself."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image

from glide.checkpoints.load import save_model
from glide.networks.model import Model
from glide.utils.file_locks import next_number
from glide.utils.images import load_image, read_recipe, save_png
from support.models import CAPTIONS, randomised
from support.sample_script import QUICK, Capture, call, pngs, process, refused
from toolkit.commands.sample_flags import CAPTIONS as BUILT_IN

# --- what it draws --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_from_anywhere(text_folder: Path, tmp_path: Path) -> None:
    """In a process of its own, from another folder, with warnings as errors."""
    done = process("--prompt", CAPTIONS[0], "--model", text_folder, *QUICK, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr and "error" not in done.stderr
    assert done.stdout == f"1 picture in {tmp_path / 'outputs'}: 00000.png\n"
    with Image.open(tmp_path / "outputs/00000.png") as image:
        assert image.size == (8, 8) and image.mode == "RGB"


@pytest.mark.filterwarnings("default:the caption is longer")
def test_built_in_captions(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    assert call("--guidance", "cfg", "--scale", 3, "--model", text_folder, "--out", tmp_path, *QUICK) == 0
    prompts = [read_recipe(tmp_path / name)["prompt"] for name in pngs(tmp_path)]
    assert prompts == list(BUILT_IN)
    # a caption that is too long is cut, and the warning says where
    assert "warning: the caption is longer than 12 tokens: cut off '" in capsys.readouterr().err


def test_recipe(text_folder: Path, text_model: Model, tmp_path: Path) -> None:
    flags = ["--model", text_folder, "--out", tmp_path, "--prompt", CAPTIONS[0], "--prompt", CAPTIONS[1]]
    flags += ["--num-samples", 2, "--seed", 5, "--respacing", "2,1", "--sampler", "ddpm", "--scale", 2]
    assert call(*flags) == 0
    recipes = [read_recipe(tmp_path / f"{i:05d}.png") for i in range(4)]
    assert [(r["prompt"], r["seed"]) for r in recipes] == [(CAPTIONS[i // 2], 5 + i) for i in range(4)]
    expected = {"model": str(text_folder), "sampler": "ddpm", "respacing": "2,1", "steps": 3, "eta": 0.0}
    expected |= {"guidance": "cfg", "scale": 2.0, "dtype": "float32", "version": "0.1.0", "device": "cpu"}
    expected |= {"call_size": 4, "threads": torch.get_num_threads(), "torch": torch.__version__}
    assert expected.items() <= recipes[0].items() and re.fullmatch("[0-9a-f]{16}", recipes[0]["weights"])


@pytest.mark.slow
def test_classes(class_folder: Path, tmp_path: Path) -> None:
    flags = ["--model", class_folder, "--out", tmp_path, *QUICK]
    assert call(*flags, "--label", "Gold Fish", "--label", 0) == 0
    recipes = [read_recipe(tmp_path / f"{i:05d}.png") for i in range(2)]
    assert [(r["label"], r["class"]) for r in recipes] == [(3, "gold fish"), (0, "apple")]
    assert call(*flags) == 0  # without a label: the first classes, of which there are five
    assert next_number(tmp_path) == 7


def test_prompts_file(text_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "captions.txt"
    file.write_text(f"\ufeff{CAPTIONS[0]}\r\n\n  {CAPTIONS[1]}  \n", encoding="utf-8")
    assert call("--model", text_folder, "--out", tmp_path / "o", "--prompts-file", file, *QUICK) == 0
    assert [read_recipe(tmp_path / "o" / name)["prompt"] for name in pngs(tmp_path / "o")] == CAPTIONS[:2]


def test_grid_and_animation(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = ["--model", text_folder, "--out", tmp_path, "--prompt", CAPTIONS[0], "--prompt", CAPTIONS[1]]
    flags += ["--num-samples", 3, "--steps", 3, "--grid", "--gif", "--call-size", 2, "--batch-size", 4]
    assert call(*flags) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[1:] == [
        f"grid: {tmp_path / 'grid-00000.png'}",
        f"animation: {tmp_path / 'grid-00000.gif'}",
    ]
    with Image.open(tmp_path / "grid-00000.png") as image:
        sheet, size = image.convert("RGB"), image.size
    assert size == (3 * 10 + 2, 2 * 10 + 2)  # a row for each caption
    with Image.open(tmp_path / "00004.png") as image:
        assert sheet.crop((12, 12, 20, 20)).tobytes() == image.tobytes()
    with Image.open(tmp_path / "grid-00000.gif") as animation:
        assert (animation.n_frames, animation.size) == (3, size)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_an_empty_caption_is_drawn_unguided(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = ["--model", text_folder, "--out", tmp_path / "o", "--prompt", "", *QUICK]
    refused(call(*flags), capsys, "empty caption, expected words")
    assert not (tmp_path / "o").exists()
    assert call(*flags, "--guidance", "none") == 0
    assert read_recipe(tmp_path / "o/00000.png")["prompt"] == ""
    assert call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "o") == 0
    assert (tmp_path / "o/00000.png").read_bytes() == (tmp_path / "o/00001.png").read_bytes()


# --- again ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_whatever_the_batch_size(text_folder: Path, tmp_path: Path, dtype: str) -> None:
    flags = ["--model", text_folder, "--prompt", CAPTIONS[0], "--num-samples", 5, "--call-size", 2, *QUICK]
    for size in (1, 4, 16):
        assert call(*flags, "--batch-size", size, "--dtype", dtype, "--out", tmp_path / str(size)) == 0
    for i in range(5):
        one, *others = [(tmp_path / str(size) / f"{i:05d}.png").read_bytes() for size in (1, 4, 16)]
        assert others == [one, one]


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [["--sampler", "ddpm"], ["--sampler", "ddim", "--eta", 0.7, "--dtype", "bfloat16", "--call-size", 2]],
)
def test_like(text_folder: Path, tmp_path: Path, flags: Sequence[object], threads: None) -> None:
    flags = ["--model", text_folder, "--prompt", CAPTIONS[1], "--num-samples", 4, "--seed", 9, *QUICK, *flags]
    torch.set_num_threads(1)  # as many as any machine has: no recipe sets more
    assert call(*flags, "--out", tmp_path / "a") == 0
    torch.set_num_threads(2)  # the recipe's number is taken
    assert call("--trust-recipe", "--like", tmp_path / "a/00003.png", "--out", tmp_path / "b") == 0
    assert torch.get_num_threads() == 1
    assert pngs(tmp_path / "b") == ["00000.png"]  # one picture, not four
    assert (tmp_path / "b/00000.png").read_bytes() == (tmp_path / "a/00003.png").read_bytes()


@pytest.mark.slow
def test_like_with_other_flags(text_folder: Path, tmp_path: Path) -> None:
    first, changed = tmp_path / "00000.png", tmp_path / "00001.png"
    assert call("--model", text_folder, "--prompt", CAPTIONS[1], "--respacing", "3", "--out", tmp_path) == 0
    assert (
        call(
            "--trust-recipe",
            "--like",
            first,
            "--out",
            tmp_path,
            "--prompt",
            CAPTIONS[0],
            "--steps",
            2,
            "--scale",
            1,
        )
        == 0
    )
    recipes = [read_recipe(first), read_recipe(changed)]
    different = {name for name in recipes[0] if recipes[0][name] != recipes[1][name]}
    assert different == {"prompt", "respacing", "steps", "scale"}
    assert (recipes[1]["prompt"], recipes[1]["steps"], recipes[1]["scale"]) == (CAPTIONS[0], 2, 1.0)


@pytest.mark.slow
def test_like_a_grid(class_folder: Path, tmp_path: Path) -> None:
    flags = [
        "--model",
        class_folder,
        "--label",
        "tench",
        "--label",
        1,
        "--num-samples",
        2,
        "--seed",
        4,
        *QUICK,
    ]
    assert call(*flags, "--grid", "--out", tmp_path / "a") == 0
    assert call("--trust-recipe", "--like", tmp_path / "a/grid-00000.png", "--out", tmp_path / "b") == 0
    assert pngs(tmp_path / "a") == pngs(tmp_path / "b")
    for name in pngs(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.slow
def test_like_needs_the_same_weights(text_model: Model, tmp_path: Path, capsys: Capture) -> None:
    model, out = tmp_path / "model", tmp_path / "o"
    save_model(model, text_model)
    assert call("--model", model, "--prompt", CAPTIONS[0], "--out", out, *QUICK) == 0
    save_model(model, randomised(Model(text_model.config, text_model.tokenizer), seed=77))
    capsys.readouterr()
    refused(call("--trust-recipe", "--like", out / "00000.png", "--out", out), capsys, "has other weights")
    assert pngs(out) == ["00000.png"]


@pytest.mark.filterwarnings("default:drawn with")
def test_like_from_another_machine(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = tmp_path / "00000.png"
    assert call("--model", text_folder, "--prompt", CAPTIONS[0], "--out", tmp_path, *QUICK) == 0
    save_png(picture, load_image(picture), {**read_recipe(picture), "torch": "1.0"})
    assert call("--trust-recipe", "--like", picture, "--out", tmp_path) == 0
    assert (
        f"warning: drawn with torch 1.0, not {torch.__version__}: the picture can" in capsys.readouterr().err
    )


def test_nothing_is_overwritten(text_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "00007.png").write_text("mine")
    (tmp_path / "notes-00009.png").touch()  # not ours
    assert call("--model", text_folder, "--prompt", CAPTIONS[0], "--out", tmp_path, "--grid", *QUICK) == 0
    assert (tmp_path / "00007.png").read_text() == "mine"
    assert pngs(tmp_path) == ["00007.png", "00008.png", "grid-00008.png", "notes-00009.png"]


# --- help -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default:the caption is longer")
def test_the_examples_in_help_run(
    text_folder: Path, upsampler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = process("--help", cwd=tmp_path)
    examples = re.findall(r"^ +python scripts/sample\.py (.*)$", done.stdout, re.MULTILINE)
    assert done.returncode == 0 and len(examples) >= 4 and "--batch-size" in done.stdout
    monkeypatch.chdir(tmp_path)
    for example in examples:
        flags = shlex.split(example)
        if {"--condition", "--like-image", "--prior"} & set(flags):
            continue  # of other models: tests/docs/test_conditions.py and test_variations.py
        small = [] if {"--like", "--respacing"} & set(flags) else list(QUICK)
        if "--size" in flags:
            small += ["--size", "32", "--upsampler", str(upsampler_folder), "--upsample-steps", "2"]
        assert call(*flags, *small, "--model", text_folder) == 0, example
