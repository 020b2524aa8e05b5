"""scripts/inpaint.py: where its masks come from, what it says of bad input, and its help."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.inpaint_files import RED, call, inside, mask_file, photo
from support.sample_script import Capture, refused
from toolkit.commands import inpaint_flags

# --- masks ----------------------------------------------------------------------------------------------------------


def painted(image: Path, result: Path) -> np.ndarray:
    """Where the result differs from the picture."""
    with Image.open(image) as old, Image.open(result) as new:
        return (np.asarray(old.convert("RGBA")) != np.asarray(new.convert("RGBA"))).any(-1)


@pytest.mark.slow
def test_where_masks_come_from(filler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    image, mask = photo(tmp_path / "photo.png"), mask_file(tmp_path / "m.png")
    out, flags = tmp_path / "o.png", ["--model", filler_folder, "--steps", 1, "--overwrite"]

    def where(*more: object) -> np.ndarray:
        assert call(*flags, "--out", out, *more) == 0
        return painted(image, out)

    def alike(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((a & ~b).sum() == 0 and a.sum() > 0.8 * b.sum())  # by chance a pixel is what it was

    assert alike(where("--image", image, "--mask", mask), inside())
    assert alike(where("--image", image, "--mask", mask, "--invert-mask"), ~inside())
    assert alike(where("--image", image, "--box", "5,2,12,9"), inside())
    clear = tmp_path / "clear.png"  # white strokes on nothing are a mask too
    layer = Image.new("RGBA", (20, 13), (255, 255, 255, 0))
    layer.paste((255, 255, 255, 255), (5, 2, 12, 9))
    layer.save(clear)
    assert alike(where("--image", image, "--mask", clear), inside())
    with Image.open(image) as opaque:
        opaque.putalpha(Image.fromarray(np.where(inside(), 0, 255).astype(np.uint8)))
        opaque.save(tmp_path / "hole.png")
    image = tmp_path / "hole.png"
    assert alike(where("--image", image), inside())
    with Image.open(out) as filled:
        assert filled.mode == "RGBA" and filled.getchannel("A").getextrema() == (255, 255)


@pytest.mark.filterwarnings("default:the mask .* is scaled")
@pytest.mark.parametrize(
    ("size", "said"), [((40, 26), "of 40x26 pixels for a picture of 20x13 is scaled"), ((10, 7), "is scaled")]
)
def test_a_mask_of_another_size_is_scaled(
    filler_folder: Path, tmp_path: Path, capsys: Capture, size: tuple[int, int], said: str
) -> None:
    image = photo(tmp_path / "photo.png")
    mask = mask_file(tmp_path / "m.png", size, (0, 0, size[0] // 2, size[1]))
    flags = ["--image", image, "--mask", mask, "--out", tmp_path / "o.png", "--steps", 1]
    assert call(*flags, "--model", filler_folder) == 0
    assert said in capsys.readouterr().err
    assert not painted(image, tmp_path / "o.png")[:, 10:].any()
    assert painted(image, tmp_path / "o.png")[:, :10].mean() > 0.8


@pytest.mark.filterwarnings("default:the mask .* has greys")
def test_greys_are_cut_at_one_half(filler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    image = photo(tmp_path / "photo.png")
    mask = np.full((13, 20), 100, np.uint8)
    mask[:, 12:] = 140
    Image.fromarray(mask).save(tmp_path / "m.png")
    flags = ["--image", image, "--mask", tmp_path / "m.png", "--out", tmp_path / "o.png", "--steps", 1]
    assert call(*flags, "--model", filler_folder) == 0
    assert "has greys: lighter than half counts as white" in capsys.readouterr().err
    assert not painted(image, tmp_path / "o.png")[:, :12].any()


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--mask square.png", "of 13x13 pixels for a picture of 20x13, expected the same shape"),
        ("--mask black.png", "the mask covers nothing"),
        ("--mask white.png", "the mask covers the whole picture"),
        ("--mask black.png --invert-mask", "the mask covers the whole picture"),
        ("--mask nowhere.png", "cannot read"),
        ("--mask text.png", "not a readable picture"),
        ("--mask cut.png", "not a readable picture"),
        ("", "no transparency that could be one, expected either: give --mask or --box"),
        ("--box 0,0,5", "expected four numbers"),
        ("--box a,b,c,d", "expected four numbers"),
        ("--box 0,0,21,5", "in a picture of 20x13"),
        ("--box 5,0,5,5", "in a picture of 20x13"),
        ("--box 0,0,20,13", "the mask covers the whole picture"),
        ("--box 0,0,5,5 --mask black.png", "--mask and --box, expected one"),
        ("--box 0,0,5,5 --method magic", "'magic', expected model or repaint or replace"),
        ("--box 0,0,5,5 --method replace --jump 2", "--jump or --resamplings with --method replace"),
        ("--box 0,0,5,5 --jump 2", "which this model has of its own"),
        ("--box 0,0,5,5 --method repaint --jump 5 --steps 3", "jump of 5 steps back in a run of 3"),
        ("--box 0,0,5,5 --resamplings 1", "--resamplings 1, expected a whole number of at least 2"),
        ("--box 0,0,5,5 --context 0.5", "context 0.5"),
        ("--box 0,0,5,5 --context nan", "context nan"),
        ("--box 0,0,5,5 --feather -1", "--feather -1, expected a whole number from 0"),
        ("--box 0,0,5,5 --num-samples 0", "--num-samples 0"),
        ("--box 0,0,5,5 --steps 5 --respacing 5", "--steps and --respacing"),
        ("--box 0,0,5,5 --scale -1", "scale -1"),
        ("--box 0,0,5,5 --label 3", "without classes"),
        ("--box 0,0,5,5 --upsampler FILLER", "draws and does not enlarge, expected an upsampler"),
        ("--box 0,0,5,5 --upsample-respacing 5", "without an upsampler"),
        ("--box 0,0,5,5 --out there.png", "there.png exists already: give another name, or --overwrite"),
        ("--box 0,0,5,5 --out photo.png --overwrite", "originals are never written over"),
        ("--mask white.png --out white.png --overwrite", "originals are never written over"),
        ("--box 0,0,5,5 --out o.jpg", "expected a name that ends in .png"),
        ("--box 0,0,5,5 --image nowhere.png", "cannot read"),
        ("--box 0,0,5,5 --image text.png", "not a readable picture"),
        ("--box 0,0,5,5 --image cut.png", "not a readable picture"),
    ],
)
def test_bad_input(filler_folder: Path, work_folder: Path, capsys: Capture, flags: str, said: str) -> None:
    photo(Path("photo.png"))
    Image.new("L", (20, 13), 0).save("black.png")
    Image.new("L", (20, 13), 255).save("white.png")
    mask_file(Path("square.png"), (13, 13), (2, 2, 9, 9))
    Path("text.png").write_text("no picture")
    Path("cut.png").write_bytes(photo(Path("whole.png"), size=(60, 60)).read_bytes()[:3000])
    Path("there.png").write_text("mine")
    before = {path.name: path.read_bytes() for path in work_folder.iterdir()}
    given = shlex.split(flags.replace("FILLER", str(filler_folder)))
    usual = [["--image", "photo.png"], ["--out", "o.png"]]
    rest = [flag for pair in usual if pair[0] not in given for flag in pair]
    refused(call("--model", filler_folder, *rest, *given), capsys, said)
    assert {path.name: path.read_bytes() for path in work_folder.iterdir()} == before


def test_a_method_that_the_model_does_not_have(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    image = photo(tmp_path / "photo.png")
    flags = ["--image", image, "--box", "0,0,5,5", "--out", tmp_path / "o.png", "--model", text_folder]
    refused(call(*flags, "--method", "model"), capsys, "'model' for a model without inpainting planes")
    assert not (tmp_path / "o.png").exists()


# --- help -----------------------------------------------------------------------------------------------------------


def test_help_says_which_way_round_a_mask_is(capsys: Capture) -> None:
    assert call("--help") == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "WHITE is painted" in said and "white stays and black is painted" in said


@pytest.mark.slow
def test_the_examples_in_help_run(text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(Path("photo.png"), size=(70, 50))
    mask_file(Path("mask.png"), (70, 50))
    hole = Image.new("RGBA", (20, 20), (9, 9, 9, 255))
    hole.paste((0, 0, 0, 0), (5, 5, 12, 12))
    hole.save("cutout.png")
    text = (inpaint_flags.__doc__ or "").replace("\\\n", " ")
    examples = re.findall(r"^ +python scripts/inpaint\.py (.*)$", text, re.MULTILINE)
    assert len(examples) >= 4
    for example in examples:
        flags = shlex.split(example)
        cut = flags.index("--steps") if "--steps" in flags else len(flags)
        small = [*flags[:cut], *flags[cut + 2 :], "--steps", "7", "--model", str(text_folder)]
        prompt = [
            RED if last == "--prompt" else flag for last, flag in zip(["", *small], small, strict=False)
        ]
        assert call(*prompt) == 0, example
