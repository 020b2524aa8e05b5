"""Hostile inputs of every kind, a few of each, the same at every run: a result, or one printable sentence.

GLIDE_FUZZ=20 takes twenty times as many.
"""

import dataclasses
import io
import json
import os
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare as compare_script
import inpaint as inpaint_script
import numpy as np
import pytest
import sample as sample_script
import torch
import train_base as train_base_script
from PIL import Image, PngImagePlugin

from glide.checkpoints.load import load_model
from glide.checkpoints.openai import convert as openai
from glide.checkpoints.openai.options import model_config, parse_options
from glide.data.datasets import open_data
from glide.data.shards.brace_expansion import shard_names
from glide.diffusion.process import respacing
from glide.diffusion.timestep_spacing import space_timesteps
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import Shapes
from glide.training.config import OptimConfig, TrainConfig
from glide.training.published_recipes import parse_with_recipe
from glide.training.train_base import train_base
from glide.training.train_base_flags import MODEL_FLAGS, TrainBase
from glide.utils.class_names import class_number
from glide.utils.cli import parse
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.image_files import read_picture
from glide.utils.images import RECIPE, load_image, read_recipe
from guidance.spec import GuidanceSpec
from support.comparison import answers, by_strength, small_plan
from support.fuzzing import NUMBERS, TEXTS, dumps, hostile, json_bytes, judge, mutate_bytes, mutate_json
from support.models import CAPTIONS
from toolkit import Pipeline
from toolkit.commands import sample_flags as sample_args
from toolkit.commands.check_data import check_data
from toolkit.commands.check_data_flags import CheckData
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.evaluate_images_flags import EvaluateImages
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.commands.inpaint import read_original
from toolkit.commands.inpaint_flags import parse as parse_inpaint
from toolkit.commands.interpolate_flags import Interpolate
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.commands.upsample_flags import Upsample
from toolkit.evaluation.npz_batches import read_batch, read_statistics
from toolkit.pipelines.image_arguments import read_pictures
from toolkit.pipelines.image_to_image import read_init_image
from toolkit.pipelines.mask_files import mask_of_box, mask_of_file
from toolkit.pipelines.recipe import read_guidance, read_options
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.pipelines.requests import find_seeds
from toolkit.pipelines.settings import SamplingConfig

Act = Callable[[], object]
Case = Callable[[random.Random, Path], Act]


def check(area: str, count: int, folder: Path, case: Case) -> None:
    """So many cases of an area; a failure names the cases by their numbers."""
    wrong = []
    for index in range(count * int(os.environ.get("GLIDE_FUZZ", "1"))):
        place = folder / str(index)
        place.mkdir()
        fault = judge(case(random.Random(f"{area} {index}"), place))
        if fault is not None:
            wrong.append(f"{area} {index}: {fault}")
        shutil.rmtree(place, ignore_errors=True)
    assert not wrong, "\n".join(wrong)


def png(rng: random.Random, size: tuple[int, int] = (12, 9)) -> Image.Image:
    mode = rng.choice(["RGB", "RGBA", "L", "LA", "P", "I;16", "1"])
    pixels = np.frombuffer(rng.randbytes(size[0] * size[1]), np.uint8).reshape(size[1], size[0])
    if mode == "I;16":
        return Image.fromarray(pixels.astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


# --- pictures -------------------------------------------------------------------------------------------------------


def picture_bytes(rng: random.Random) -> bytes:
    kind, file = rng.choice(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "EPS", "PPM"]), io.BytesIO()
    picture = png(rng)
    if kind in ("JPEG", "EPS", "PPM", "BMP", "WEBP"):
        picture = picture.convert("RGB")
    extra: dict[str, Any] = {}
    if kind in ("PNG", "JPEG", "WEBP") and rng.random() < 0.5:
        exif = Image.Exif()
        exif[274] = rng.choice([0, 3, 6, 9, 65535])
        extra["exif"] = mutate_bytes(rng, exif.tobytes()) if rng.random() < 0.5 else exif.tobytes()
    if kind in ("PNG", "JPEG", "TIFF") and rng.random() < 0.3:
        extra["icc_profile"] = rng.randbytes(60)
    picture.save(file, kind, **extra)
    data = file.getvalue()
    if kind == "PNG" and rng.random() < 0.3:  # a size that the file does not hold
        data = data[:16] + rng.choice([b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\1\0\0"]) + data[20:]
    return mutate_bytes(rng, data) if rng.random() < 0.7 else data


@pytest.mark.slow
def test_pictures(text_model: Model, tmp_path: Path) -> None:
    readers: list[Callable[[str], object]] = [
        read_picture,
        load_image,
        read_recipe,
        read_original,
        lambda path: mask_of_file(path, (12, 9)),
        lambda path: read_init_image(path, text_model),
        lambda path: read_pictures([path, Path(path)], "image"),
    ]

    def case(rng: random.Random, folder: Path) -> Act:
        file = folder / ("x" + rng.choice([".png", ".jpg", ".gif", ".txt", ""]))
        file.write_bytes(picture_bytes(rng))
        reader = rng.choice(readers)
        return lambda: reader(str(file))

    check("pictures", 200, tmp_path, case)


# --- data -----------------------------------------------------------------------------------------------------------


def look_at(spec: str, out: Path, rng: random.Random) -> Act:
    """Two batches of a data set, or its check."""
    if rng.random() < 0.3:
        args = CheckData(spec, sheet=out / "sheet.png", report=out / "report.json", workers=1, size=16)
        return lambda: check_data(args)

    def batches() -> None:
        data = open_data(spec, 8, max_broken=1.0)
        for step in range(2):
            data.batch(step, 2)
        data.captions_for_tokenizer()

    return batches


def caption(rng: random.Random) -> bytes:
    text = rng.choice(TEXTS).encode("utf-8", "surrogatepass")
    return mutate_bytes(rng, text) if text and rng.random() < 0.3 else text


def write(path: Path, data: bytes) -> None:
    """Names that this file system does not take are left out."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (OSError, ValueError):
        pass


@pytest.mark.slow
def test_captions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def case(rng: random.Random, folder: Path) -> Act:
        data = folder / "data"
        names = [
            rng.choice(["a", "b", "\x1b[31m", "ü", "A", "\udcff", "x" * 200, "a.b", "-"]) for _ in range(3)
        ]
        for name in names:
            write(data / f"{name}.png", picture_bytes(rng))
            if rng.random() < 0.6:
                write(data / f"{name}{rng.choice(['.txt', '.TXT'])}", caption(rng))
        if rng.random() < 0.6:
            table = rng.choice(["captions.csv", "metadata.csv", "metadata.jsonl"])
            row = {"file_name": f"{names[0]}.png", "text": rng.choice(TEXTS), "file": "b.png", "caption": "x"}
            lines = [json.dumps(mutate_json(rng, row)) for _ in range(3)]
            if not table.endswith("l"):
                lines = [rng.choice(["file,caption", "file_name,text", "image;caption", "file_name", ""])]
                lines += [f"{name}.png{rng.choice(',;')}{rng.choice(TEXTS)}" for name in names]
            write(data / table, "\n".join(lines).encode("utf-8", "surrogatepass"))
        if rng.random() < 0.3:
            write(data / rng.choice(["train", "class", "\x07"]) / "c.png", picture_bytes(rng))
        data.mkdir(exist_ok=True)
        return look_at(str(data), folder, rng)

    check("captions", 60, tmp_path, case)
    assert "\x1b" not in (shown := capsys.readouterr().out) and "\x07" not in shown


def shard(rng: random.Random) -> bytes:
    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=rng.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    ) as tar:
        for i in range(3):
            name = rng.choice([f"{i:04d}", "a/b", "../up", "/root", "\x1b[31m", "x" * 150, "ü"])
            about = json.dumps(mutate_json(rng, {"caption": "a", "width": 3})).encode()
            members = [(".png", picture_bytes(rng)), (rng.choice([".txt", ".cls", ".json"]), b"")]
            for suffix, data in members:
                if suffix == ".cls":
                    data = rng.choice([b"1", b"-1", b"1000000000", b"9" * 5000, b"x", b"nan"])
                elif suffix == ".txt":
                    data = caption(rng)
                elif suffix == ".json":
                    data = rng.choice([about, json_bytes(rng, {"caption": "a"})])
                member = tarfile.TarInfo(name + suffix)
                member.size = len(data)
                if rng.random() < 0.08:
                    member.type = rng.choice(
                        [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE]
                    )
                    member.linkname, member.size = "/etc/passwd", 0
                tar.addfile(member, io.BytesIO(data) if member.size else None)
    data = file.getvalue()
    way = rng.random()
    if way < 0.15:  # a member of many gigabytes, with a header whose sum is right
        header = tarfile.TarInfo("big.png")
        header.size = rng.choice([6 * 2**30, 2**40])
        return header.tobuf(tarfile.GNU_FORMAT) + data
    return mutate_bytes(rng, data) if way < 0.6 else data


@pytest.mark.slow
def test_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def case(rng: random.Random, folder: Path) -> Act:
        for name in ("0", "1"):
            write(folder / f"{name}.tar", shard(rng))
        if rng.random() < 0.2:
            write(folder / "0.idx.json", json_bytes(rng, {"format": 1, "samples": []}))
        return look_at(str(folder / rng.choice(["{0..1}.tar", "0.tar", "*.tar", "{0..9}.tar"])), folder, rng)

    check("shards", 60, tmp_path, case)
    assert "\x1b" not in capsys.readouterr().out


# --- models ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_batches_of_pictures(tmp_path: Path) -> None:
    """guided-diffusion's .npz files, packed or not."""

    def case(rng: random.Random, folder: Path) -> Act:
        file = io.BytesIO()
        arrays = {"arr_0": np.zeros((2, 3, 3, 3), np.uint8), "mu": np.zeros(3), "sigma": np.eye(3)}
        (np.savez if rng.random() < 0.7 else np.savez_compressed)(file, **arrays)
        path = folder / "batch.npz"
        path.write_bytes(mutate_bytes(rng, file.getvalue()))

        def read() -> None:
            np.array(read_batch(str(path)))
            read_statistics(str(path))

        return read

    check("batches", 60, tmp_path, case)


@pytest.mark.slow
def test_model_folders(text_folder: Path, class_folder: Path, tmp_path: Path) -> None:
    def case(rng: random.Random, folder: Path) -> Act:
        model = folder / "model"
        shutil.copytree(rng.choice([text_folder, class_folder]), model)
        file = model / rng.choice(
            ["config.json", "config.json", "config.json", "model.safetensors", "tokenizer.json"]
        )
        if file.exists() and file.suffix == ".json":
            value = json.loads(file.read_text("utf-8"))
            if file.name == "config.json" and rng.random() < 0.8:
                value["model"] = mutate_json(rng, value["model"])
                file.write_bytes(json.dumps(value).encode())
            else:
                file.write_bytes(json_bytes(rng, value))
        elif file.exists():
            data = file.read_bytes()
            length = int.from_bytes(data[:8], "little")
            if rng.random() < 0.5:
                header = json.loads(data[8 : 8 + length])
                changed = json_bytes(rng, header)
                data = len(changed).to_bytes(8, "little") + changed + data[8 + length :]
            file.write_bytes(mutate_bytes(rng, data) if rng.random() < 0.5 else data)
        before = {path.name for path in model.iterdir()}

        def act() -> None:
            try:
                if rng.random() < 0.7:
                    load_model(model)
                else:
                    Pipeline.from_pretrained(model, "cpu")
            finally:
                assert {path.name for path in model.iterdir()} == before  # reading writes nothing

        return act

    check("models", 60, tmp_path, case)


@pytest.mark.slow
def test_published_files(tmp_path: Path) -> None:
    options = {"image_size": 8, "num_channels": 32, "num_res_blocks": 1, "channel_mult": "1,2"}
    state = {"input_blocks.0.0.weight": torch.zeros(32, 3, 3, 3), "time_embed.0.bias": torch.zeros(128)}

    def case(rng: random.Random, folder: Path) -> Act:
        file = folder / rng.choice(["base.pt", "64x64_diffusion.pt", "x.pt"])
        value: Any = rng.choice(
            [
                state,
                {"state_dict": state},
                {"model": {f"module.{name}": one for name, one in state.items()}},
                {name: hostile(rng) for name in state},
                {hostile_key: torch.zeros(2) for hostile_key in rng.sample(TEXTS, 4)},
                {**state, "extra": {"deep": [torch.zeros(1)] * 3}},
                [torch.zeros(1)],
                Evil(),
                {"input_blocks.0.0.weight": Evil()},
            ]
        )
        torch.save(value, file, _use_new_zipfile_serialization=rng.random() < 0.7)
        data = file.read_bytes()
        if zipfile.is_zipfile(file) and rng.random() < 0.3:
            with zipfile.ZipFile(file) as old:
                members = {info.filename: old.read(info) for info in old.infolist()}
            with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as new:
                for name, content in members.items():
                    if rng.random() < 0.8:
                        new.writestr(name, mutate_bytes(rng, content) if rng.random() < 0.4 else content)
        elif rng.random() < 0.6:
            file.write_bytes(mutate_bytes(rng, data))
        if rng.random() < 0.5:
            return lambda: openai.load(file)
        changed = mutate_json(rng, options) if rng.random() < 0.5 else options
        return lambda: openai.from_state_dict(
            openai.read_state_dict(file), parse_options(json.dumps(changed))
        )

    check("pt", 80, tmp_path, case)
    assert not Evil.ran


class Evil:
    """Code in a pickle."""

    ran = False

    def __reduce__(self) -> Any:
        return setattr, (Evil, "ran", True)


assert pickle.loads(pickle.dumps(Evil())) is None and Evil.ran  # it is one
Evil.ran = False


@pytest.mark.slow
def test_runs(tmp_path: Path) -> None:
    train = TrainConfig(
        steps=2, batch_size=2, optim=OptimConfig(warmup=1), dtype="float32", save_every=1, sample_every=9
    )
    run = TrainBase(out=tmp_path / "run", preset="tiny", train=train)
    train_base(run)
    cases = tmp_path / "cases"
    cases.mkdir()

    def case(rng: random.Random, folder: Path) -> Act:
        shutil.copytree(tmp_path / "run", folder / "run")
        files = [path for path in sorted((folder / "run").rglob("*")) if path.is_file()]
        for file in rng.sample(files, rng.choice([1, 1, 2])):
            if file.suffix in (".json", ".jsonl") and rng.random() < 0.7:
                lines = file.read_text("utf-8")
                value = json.loads(lines.splitlines()[0] if file.suffix == ".jsonl" else lines)
                file.write_bytes(json_bytes(rng, value))
            else:
                file.write_bytes(mutate_bytes(rng, file.read_bytes()))
        more = dataclasses.replace(train, steps=3, save_every=9)
        return lambda: train_base(dataclasses.replace(run, out=folder / "run", train=more, resume=True))

    check("runs", 8, cases, case)


# --- command lines and recipes --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_recipes(text_model: Model, text_folder: Path, tmp_path: Path) -> None:
    pipe = Pipeline(text_model, str(text_folder))
    pipe.set_progress_bar_config(disable=True)
    [recipe] = pipe(CAPTIONS[0], num_inference_steps=2, seed=0).recipes
    several = recipe | {"num_samples": 1, "num_pictures": 2, "prompts": CAPTIONS[:2]}
    painted = recipe | {"made_by": "inpaint.py", "image": "x.png", "mask": "y.png", "invert_mask": False}
    painted |= {"method": "repaint", "context": 3.0, "feather": 0}
    upsampled = recipe | {"upsampler": recipe | {"noise": 0.0}, "enlarged": "x.png"}
    parsers = (sample_args.parse, parse_inpaint)

    def case(rng: random.Random, folder: Path) -> Act:
        info = PngImagePlugin.PngInfo()
        data = json_bytes(rng, rng.choice([recipe, several, painted, upsampled]))
        info.add_itxt(RECIPE, data.decode("utf-8", "replace"))
        file = folder / "like.png"
        Image.new("RGB", (8, 8)).save(file, pnginfo=info)
        if rng.random() < 0.25:
            return lambda: sample_script.main(
                ["--like", str(file), "--out", str(folder / "out"), "--steps", "1"]
            )
        parse_one = rng.choice(parsers)
        needed = [] if parse_one is sample_args.parse else ["--out", str(folder / "x.png")]
        return lambda: parse_one(["--like", str(file), *needed], "x")

    check("recipes", 40, tmp_path, case)


@pytest.mark.slow
def test_answers_and_keys_of_comparisons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = small_plan(captions=4, catch=4)
    strengths = {"a": 0.0, "b": 1.0, "c": 2.0}
    whole = {"a": answers(comparison, "anna", by_strength(strengths, 0)), "k": comparison.key()}

    def case(rng: random.Random, folder: Path) -> Act:
        hit = rng.choice(["a", "k"])
        for name, value in whole.items():
            data = json_bytes(rng, value) if name == hit else json.dumps(value).encode()
            (folder / f"{name}.json").write_bytes(data)
        files = ["--answers", str(folder / "a.json"), "--key", str(folder / "k.json")]
        more = ["--bootstrap", "100", "--keep-failed", "--out", str(folder / "report.json")]
        return lambda: compare_script.main([*files, *more])

    check("comparisons", 60, tmp_path, case)


FLAGS = [
    "--steps",
    "--scale",
    "--seed",
    "--guidance",
    "--respacing",
    "--spacing",
    "--sampler",
    "--eta",
    "--strength",
]
FLAGS += [
    "--batch-size",
    "--call-size",
    "--num-samples",
    "--negative",
    "--rescale",
    "--threshold",
    "--prompt",
]
FLAGS += [
    "--label",
    "--device",
    "--dtype",
    "--model",
    "--box",
    "--context",
    "--feather",
    "--deep-every",
    "--keep",
]
FLAGS += [
    "--size",
    "--init-image",
    "--mask",
    "--like",
    "--prompts-file",
    "--unknown-flag",
    "--cfg",
    "--gif-frames",
]
WORDS = [
    *TEXTS,
    "cfg:3",
    "cfg:nan",
    "cfg:3@9-1",
    "pag:2@0-" + "9" * 4000,
    "clip:1",
    "auto",
    "ddim50",
    "fast27",
    "10,10",
]
WORDS += [
    "euler a",
    "dpm++ 2m karras",
    "karras",
    "0,0,4,4",
    "4,4,0,0",
    "float32",
    "int8",
    "cuda:99",
    "hpu",
    "inf",
    "1e400",
]


def word(rng: random.Random) -> str:
    return str(rng.choice([rng.choice(WORDS), rng.choice(NUMBERS[:8])])).replace("\0", "")


@pytest.mark.slow
def test_command_lines(text_folder: Path, tmp_path: Path) -> None:
    parsers: list[Callable[[list[str]], object]] = [
        lambda argv: sample_args.parse(argv, "x")[0].settings(True),
        lambda argv: parse_inpaint(argv, "x")[0].settings(True),
        lambda argv: parse(Interpolate, "x", argv).check(),
        lambda argv: parse(Upsample, "x", argv).check(),
        lambda argv: parse_with_recipe(TrainBase, "train_base", "x", argv),
        lambda argv: parse(Evaluate, "x", argv).check(),
        lambda argv: parse(EvaluateImages, "x", argv).check(),
        lambda argv: parse(Sweep, "x", argv).check(),
        lambda argv: parse(SolverSweep, "x", argv).check(),
    ]

    def case(rng: random.Random, folder: Path) -> Act:
        argv = [text for _ in range(rng.choice([1, 2, 3])) for text in (rng.choice(FLAGS), word(rng))]
        argv = argv[:-1] if rng.random() < 0.05 else argv
        if rng.random() < 0.25:
            quick = ["--model", str(text_folder), "--steps", "1", "--out", str(folder / "out")]
            small = [text for text in argv if text not in ("--num-samples", "--device")]
            return lambda: sample_script.main([*quick, *small])
        if rng.random() < 0.1:
            file = folder / "x.png"
            png(rng).save(file)
            given = [
                "--model",
                str(text_folder),
                "--image",
                str(file),
                "--steps",
                "1",
                "--out",
                str(folder / "y.png"),
            ]
            return lambda: inpaint_script.main([*given, "--box", "0,0,4,4", *argv])
        parser = rng.choice(parsers)
        return lambda: parser(argv)

    check("cli", 60, tmp_path, case)


# --- configuration files --------------------------------------------------------------------------------------------


ODD_TOML = ("1979-05-27", "0x7fffffff", "-inf", "nan", "[", "{a = 1}", "9" * 5000)


def toml(rng: random.Random, value: object) -> str:
    """A value in TOML, most of whose values are written as JSON's."""
    if value is None or value != value or rng.random() < 0.05:
        return rng.choice(ODD_TOML)
    return dumps(value).decode().replace("Infinity", "inf").replace("NaN", "nan")


@pytest.mark.slow
def test_configuration_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = list(MODEL_FLAGS.hints)

    def case(rng: random.Random, folder: Path) -> Act:
        lines = []
        for key in rng.sample(keys, rng.choice([1, 2, 5])):
            table, name = key.split(".", 1)
            near = rng.choice([8, 16, 32, 3, 6, 1, 0.5, "linear", "v", True, [1, 2], [2]])
            lines.append(f"[{table}]\n{name} = {toml(rng, near if rng.random() < 0.6 else hostile(rng))}\n")
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
        path = folder / "model.toml"
        path.write_bytes(mutate_bytes(rng, data) if rng.random() < 0.3 else data)
        flags = ["--preset", "tiny", "--config", str(path)]
        if rng.random() < 0.5:
            flags += [f"--{rng.choice(keys).replace('_', '-')}", word(rng)]
        return lambda: show(flags)

    def show(flags: list[str]) -> None:
        try:
            train_base_script.main([*flags, "--show-config"])
        except SystemExit as end:
            assert end.code == 0

    check("toml", 60, tmp_path, case)
    capsys.readouterr()


# --- words ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_words(text_model: Model, class_model: Model, tmp_path: Path) -> None:
    process = text_model.process
    tokenizer = Tokenizer.train(CAPTIONS, 300, 12)
    pipe = Pipeline(text_model, call_size=1)
    pipe.set_progress_bar_config(disable=True)
    guided = {"guidance": "cfg", "scale": 3.0, "options": {"negative": "a"}}

    def drawing(rng: random.Random) -> Act:
        named: dict[str, Any] = {"prompt": CAPTIONS[0], "num_inference_steps": 1, "seed": 0}
        names = [
            "prompt",
            "negative_prompt",
            "label",
            "guidance_scale",
            "num_inference_steps",
            "seed",
            "sampler",
        ]
        names += [
            "eta",
            "image",
            "mask_image",
            "strength",
            "height",
            "latents",
            "guidances",
            "output_type",
            "options",
        ]
        names += ["generator", "spacing", "return_dict", "callback_on_step_end", rng.choice(TEXTS)]
        for name in rng.sample(names, 2):
            named[name] = hostile(rng)
        return lambda: pipe(**named)

    def act_of(rng: random.Random) -> Act:
        text = rng.choice([word(rng), rng.choice(TEXTS)])
        number = rng.choice(NUMBERS)
        return rng.choice(
            [
                lambda: respacing(text, 1000),
                lambda: space_timesteps(process, text, rng.choice(["uniform", "karras", text])),
                lambda: GuidanceSpec.parse(text),
                lambda: SamplingConfig(guidance=text, eta=number),
                lambda: SamplingConfig(sampler=text, temperature=number, respacing=text, spacing=text),
                lambda: mask_of_box(text, (31, 24)),
                lambda: model_config(parse_options(text)),
                lambda: Shapes.parse_spec(text, 0, 16).batch(0, 1),
                lambda: shard_names(str(tmp_path / text.replace("/", "_"))),
                lambda: class_number(class_model.config, text),
                lambda: tokenizer.encode([text], warn=False),
                lambda: Tokenizer.train([text, text], 300, 12),
                lambda: find_device(text),
                lambda: find_seeds(2, number, None),
                lambda: read_options(Recorded({"negative": "a", "rescale": hostile(rng)}, "x.png")).check(),
                lambda: ModelConfig.from_dict(mutate_json(rng, PRESETS["tiny"].to_dict())),
                lambda: Pipeline.from_pretrained(text, rng.choice(["cpu", text])),
                lambda: read_guidance(Recorded({**guided, rng.choice([*guided]): hostile(rng)}, "x.png")),
                drawing(rng),
                drawing(rng),
                drawing(rng),
            ]
        )

    check("words", 400, tmp_path, lambda rng, folder: act_of(rng))


def test_the_judge() -> None:
    """It sees what it is to see."""

    def refuse(text: str) -> Act:
        def act() -> None:
            raise InputError(text)

        return act

    assert judge(lambda: 1) is None and judge(refuse("one sentence")) is None
    assert "KeyError" in str(judge(lambda: {}["x"]))
    assert "empty" in str(judge(refuse("")))
    if Path("/proc").exists() and not torch.cuda.is_available():  # where memory is limited
        assert "MemoryError" in str(judge(lambda: bytearray(6 * 2**30)))
    assert "did socket" in str(judge(lambda: __import__("socket").getaddrinfo("localhost", 1)))
