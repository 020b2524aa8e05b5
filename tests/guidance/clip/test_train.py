"""Training a noisy CLIP: it learns, resumes exactly, compares what it should, and says what it cannot do."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import train_clip as script  # scripts/train_clip.py
from safetensors.torch import load_file
from torch import Tensor

from glide.checkpoints.load import load_model, save_model
from glide.checkpoints.model_folder import read_config
from glide.networks.config import ModelConfig, ProcessConfig, TextConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.training.config import OptimConfig
from glide.training.row_rng import RowRng
from glide.utils.errors import InputError
from guidance.clip.add_layers import deepened
from guidance.clip.config import CLIPS
from guidance.clip.contrastive import Contrastive, contrast
from guidance.clip.load import load_clip
from guidance.clip.network import NoisyClip
from guidance.clip.noise_levels import plot, retrieval, table
from guidance.clip.train import train_clip
from guidance.clip.train_flags import TrainClip
from support.clip_training import photos, settings
from support.paths import ROOT
from support.sample_script import Capture, refused
from support.scripts import call

# --- the loss ------------------------------------------------------------------------------------------------------


def pairs(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.nn.functional.normalize(torch.randn(n, 8, generator=generator)) for _ in range(2))


def test_without_repeats_it_is_clips_loss() -> None:
    image, text = pairs(5)
    terms = contrast(image, text, torch.arange(5)[:, None], torch.tensor(7.0))
    logits, own = 7.0 * image @ text.T, torch.arange(5)
    cross_entropy = torch.nn.functional.cross_entropy
    expected = cross_entropy(logits, own, reduction="none") + cross_entropy(logits.T, own, reduction="none")
    torch.testing.assert_close(terms["loss"], expected / 2)
    assert torch.equal(terms["image_to_text"], (logits.argmax(1) == own).float())
    assert torch.equal(terms["text_to_image"], (logits.argmax(0) == own).float())


def test_a_repeated_caption_is_no_mistake() -> None:
    """Where pictures and captions agree the loss is zero, however often a caption stands there."""
    tokens = torch.tensor([[3, 1], [3, 2], [3, 1], [3, 1]])
    vectors = torch.eye(4)[[0, 1, 0, 0]]
    terms = contrast(vectors, vectors, tokens, torch.tensor(100.0))
    torch.testing.assert_close(terms["loss"], torch.zeros(4), atol=1e-6, rtol=0)
    assert terms["image_to_text"].all() and terms["text_to_image"].all()
    # as different captions they would be
    apart = contrast(vectors, vectors, torch.arange(4)[:, None], torch.tensor(100.0))
    assert apart["loss"][0] > 1.0 and apart["loss"][1] < 1e-6


def test_a_repeated_caption_moves_no_picture_away_from_it() -> None:
    image, text = pairs(3)
    text = text[[0, 0, 1]]
    image = image[[0, 0, 1]].clone().requires_grad_()
    contrast(image, text, torch.tensor([[0], [0], [1]]), torch.tensor(5.0))["loss"].sum().backward()
    assert image.grad is not None
    assert torch.equal(image.grad[0], image.grad[1]) and (image.grad[0] @ text[0]) < 0  # towards its caption


def test_bfloat16_leaves_the_loss_alone() -> None:
    image, text = pairs(16)
    with torch.autocast("cpu", torch.bfloat16):
        half = contrast(image, text, torch.arange(16)[:, None], torch.tensor(100.0))["loss"]
    assert torch.equal(half, contrast(image, text, torch.arange(16)[:, None], torch.tensor(100.0))["loss"])


PROCESS = """
import sys, torch, torch.distributed as dist
from guidance.clip.contrastive import contrast
torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", f"file://{folder}/store", world_size=2, rank=rank)
x, y, tokens = torch.load(f"{folder}/batch.pt")
rows = slice(3 * rank, 3 * rank + 3)
w = torch.eye(8, requires_grad=True)
terms = contrast(x[rows] @ w, y[rows] @ w, tokens[rows], torch.tensor(3.0))
terms["loss"].mean().backward()
dist.all_reduce(w.grad)
torch.save((terms["loss"].detach(), w.grad / 2), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_processes_compare_all_their_pairs(tmp_path: Path) -> None:
    """Two processes of three pairs are one of six: losses, and gradients averaged as DDP does."""
    x, y = pairs(6)
    tokens = torch.tensor([[0], [1], [2], [1], [3], [0]])  # repeats across the processes
    torch.save((x, y, tokens), tmp_path / "batch.pt")
    command = [sys.executable, "-c", PROCESS]
    running = [subprocess.Popen([*command, str(rank), str(tmp_path)], cwd=ROOT) for rank in (0, 1)]
    assert [process.wait(timeout=300) for process in running] == [0, 0]
    w = torch.eye(8, requires_grad=True)
    loss = contrast(x @ w, y @ w, tokens, torch.tensor(3.0))["loss"]
    loss.mean().backward()
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([part[0] for part in parts]), loss.detach())
    for _, gradient in parts:
        torch.testing.assert_close(gradient, w.grad)


@pytest.mark.slow
def test_the_temperature_is_clamped(tmp_path: Path) -> None:
    net = train_clip(settings(tmp_path / "run", train={"steps": 1}))
    with torch.no_grad():
        net.logit_scale.fill_(9.0)
    assert net.scale.item() == pytest.approx(100.0)
    batch = {"image": torch.zeros(2, 3, 16, 16), "caption": ["a red circle", "a blue star"]}
    terms = Contrastive()(net, batch, torch.tensor([3, 7]), RowRng(0, range(2)))
    assert net.logit_scale.item() == pytest.approx(math.log(100.0)) and terms["scale"].shape == (2,)
    terms["loss"].mean().backward()
    assert net.logit_scale.grad is not None and net.logit_scale.grad != 0


# --- the run -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns(tmp_path: Path) -> None:
    """After seconds, pairs that it has not seen find each other more often than by chance, with little noise first."""
    train = {"steps": 300, "batch_size": 32, "log_every": 50, "save_every": 300, "sample_every": 300}
    args = settings(tmp_path / "run", train=train)
    train_clip(dataclasses.replace(args, held_out_pairs=128, levels=4))
    levels = [json.loads(line) for line in (tmp_path / "run/levels.jsonl").read_text().splitlines()]
    assert [level["step"] for level in levels] == [300] * 4
    found = [level[way] for level in levels for way in ("image_to_text", "text_to_image")]
    assert sum(found) / 8 > 2 / 128, "chance is 1 in 128"  # measured: 4
    loss = [level["loss"] for level in levels]
    assert loss == sorted(loss) and sum(loss) / 4 < 0.96 * math.log(128)  # measured: 0.92
    training = read_config(tmp_path / "run")["training"]
    assert training["step"] == 300 and [level["t"] for level in training["levels"]] == [125, 375, 625, 875]


@pytest.mark.slow
def test_resume_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_clip(settings(tmp_path / "whole"))

    def stop(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("guidance.clip.train.retrieval", stop)  # at step 4
        train_clip(settings(tmp_path / "parts"))
    train_clip(settings(tmp_path / "parts", resume=True))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for name in ("model", "ema-0.9"):
        one, two = (load_file(run / f"checkpoints/step-0000006/{name}.safetensors") for run in (whole, parts))
        assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    logs = [(run / "log.jsonl").read_text().splitlines() for run in (whole, parts)]
    losses = [[json.loads(line)["loss"] for line in log] for log in logs]
    assert losses[0] == losses[1] and len(losses[0]) == 3
    a, b = load_clip(whole), load_clip(parts)
    assert torch.equal(a.embed_captions(["a red star"]), b.embed_captions(["a red star"]))
    assert "levels" in read_config(parts)["training"]


@pytest.mark.slow
def test_like_takes_the_noise_of_the_model_to_steer(tmp_path: Path) -> None:
    config = dataclasses.replace(
        PRESETS["tiny"], process=ProcessConfig("linear", 50, variance="fixed_small"), text=None
    )
    save_model(tmp_path / "base", Model(config))
    args = settings(tmp_path / "run", like=str(tmp_path / "base"), train={"steps": 1})
    net = train_clip(args)
    assert net.config.process == config.process and net.image.times.num_embeddings == 50
    small = ModelConfig(dataclasses.replace(config.unet, image_size=8), process=config.process)
    save_model(tmp_path / "small", Model(small))
    with pytest.raises(InputError, match=r"--like .*a CLIP of 16x16 pixels for a model of 8x8"):
        train_clip(settings(tmp_path / "x", like=str(tmp_path / "small")))


@pytest.mark.slow
def test_a_folder_of_captioned_pictures(tmp_path: Path) -> None:
    args = settings(tmp_path / "run", held_out=0.3, context=30, vocab_size=280, train={"steps": 4})
    net = train_clip(dataclasses.replace(args, data=str(photos(tmp_path / "data", 20))))
    assert net.tokenizer is not None and net.config.text.context == 30 and net.tokenizer.n_vocab <= 280
    assert (tmp_path / "run/levels.jsonl").exists()


def test_table_and_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tiny = CLIPS["tiny"]
    net = NoisyClip(dataclasses.replace(tiny, text=TextConfig(257, 24, 32, 1, 2, padding=False)))
    net.tokenizer = Tokenizer.train(["ab"], 257, 24)
    image = torch.rand(3, 3, 16, 16)
    levels = retrieval(net.eval(), image, ["a", "b", "a"], [0, 999], torch.bfloat16)
    assert levels == retrieval(net, image, ["a", "b", "a"], [0, 999], torch.bfloat16)
    lines = table(levels).splitlines()
    assert len(lines) == 4 and "image->text" in lines[0] and lines[-1].split()[0] == "mean"
    plot(levels, 3, "three pairs").savefig(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "x"
    train_clip(settings(tmp_path / "run", train={"steps": 1}))
    data, classes = photos(tmp_path / "data", 3), photos(tmp_path / "classes", 4, captions=False)
    base = settings(out)
    wrong: list[tuple[TrainClip, str]] = [
        (settings(out, train={"accumulate": 2}), "--accumulate 2: expected at least 2, and 1"),
        (settings(out, train={"batch_size": 1}), "--batch-size 1"),
        (dataclasses.replace(base, levels=0), "--levels 0"),
        (dataclasses.replace(base, preset="nope"), "--preset 'nope'"),
        (settings(tmp_path / "run"), "already holds a run"),
        (settings(out, resume=True), "no checkpoint in"),
        (dataclasses.replace(base, data=str(classes)), "has classes, expected captions"),
        (dataclasses.replace(base, data=str(data), held_out=0.0), "3 pictures, fewer than a batch of 4"),
        (settings(out, context=0), "--context 0"),
        (settings(out, like="nowhere"), "no model 'nowhere'"),
    ]
    for args, said in wrong:
        with pytest.raises(InputError, match=said):
            train_clip(args)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"glide-toolkit\[plot\]"):
        train_clip(settings(out, plot=True))
    assert not out.exists()


@pytest.mark.slow
def test_the_script(tmp_path: Path, capsys: Capture) -> None:
    flags = "--data shapes:one --preset tiny --steps 2 --batch-size 2 --held-out-pairs 4 --levels 2 --dtype float32"
    assert call(script, "--out", tmp_path / "c", *flags.split()) == 0
    assert "image->text" in "".join(capsys.readouterr())
    refused(call(script, "--out", tmp_path / "c", *flags.split()), capsys, "already holds a run")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the caption is longer")
def test_a_clip_begins_as_the_model_it_is_to_steer(text_folder: Path, tmp_path: Path) -> None:
    base, out = load_model(text_folder), tmp_path / "run"
    still = {"steps": 1, "save_every": 1, "optim": OptimConfig(lr=0.0)}
    train_clip(settings(out, init=str(text_folder), like=str(text_folder), train=still))
    clip = load_clip(out)
    assert (
        base.text is not None
        and clip.config.trunk == base.config.unet
        and clip.config.text == base.config.text
    )
    for ours, theirs in ((clip.text, base.text), (clip.image.encoder, base.unet)):  # type: ignore[union-attr]
        known = theirs.state_dict()  # type: ignore[union-attr, operator]
        assert all(torch.equal(p, known[name]) for name, p in ours.state_dict().items())  # type: ignore[union-attr, operator]
    go_on = {"steps": 3, "optim": OptimConfig(lr=1e-3)}
    train_clip(settings(out, init=str(text_folder), resume=True, train=go_on))
    assert not torch.equal(load_clip(out).text_head.weight, clip.text_head.weight)
    # what the picture fits is read from all words, whatever stands beside it in the batch
    few, many = (
        clip.embed_captions(captions) for captions in (["a red circle"], ["a blue square", "a red circle"])
    )
    torch.testing.assert_close(few[0], many[1])


@pytest.mark.slow
def test_a_clip_is_trained_further(tmp_path: Path) -> None:
    """--init with a CLIP: with nothing learned it is that CLIP, words and temperature included."""
    train_clip(settings(tmp_path / "one"))
    still = {"steps": 1, "save_every": 1, "optim": OptimConfig(lr=0.0)}
    train_clip(settings(tmp_path / "two", init=str(tmp_path / "one"), train=still))
    one, two = load_clip(tmp_path / "one"), load_clip(tmp_path / "two")
    assert one.config == two.config
    assert all(torch.equal(a, two.state_dict()[name]) for name, a in one.state_dict().items())
    red = ["a red star"]
    assert torch.equal(one.embed_captions(red), two.embed_captions(red))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the caption is longer")
def test_a_clip_grows_deeper_and_says_the_same(text_folder: Path, tmp_path: Path) -> None:
    """--deepen: new blocks begin as the identity, and learn."""
    one = {"steps": 2, "save_every": 2, "optim": OptimConfig(lr=1e-3)}
    train_clip(settings(tmp_path / "one", init=str(text_folder), like=str(text_folder), train=one))
    clip = load_clip(tmp_path / "one")
    grown = deepened(clip, 2).eval()
    assert grown.config.trunk is not None and clip.config.trunk is not None
    assert grown.config.trunk.num_res_blocks == clip.config.trunk.num_res_blocks + 2
    x, t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 20, 60])
    torch.testing.assert_close(grown.encode_image(x, t), clip.encode_image(x, t))
    assert torch.equal(grown.embed_captions(["a red star"]), clip.embed_captions(["a red star"]))
    train_clip(
        settings(tmp_path / "two", init=str(tmp_path / "one"), like=str(text_folder), deepen=1, train=one)
    )
    two = load_clip(tmp_path / "two")
    assert two.config.trunk is not None
    assert two.config.trunk.num_res_blocks == clip.config.trunk.num_res_blocks + 1
    assert two.image.encoder.down[1].res.conv_out.weight.any()  # type: ignore[union-attr, index]


@pytest.mark.slow
def test_what_cannot_grow_deeper(tmp_path: Path) -> None:
    train_clip(settings(tmp_path / "one"))
    with pytest.raises(InputError, match="--deepen 1 for a CLIP with a vision transformer"):
        train_clip(settings(tmp_path / "run", init=str(tmp_path / "one"), deepen=1))
    with pytest.raises(InputError, match="--deepen 1 without --init"):
        train_clip(settings(tmp_path / "run", deepen=1))
    assert not (tmp_path / "run").exists()


def test_what_a_clip_cannot_begin_with(class_folder: Path, text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads no captions"):
        train_clip(settings(tmp_path / "run", init=str(class_folder)))
    with pytest.raises(InputError, match="--context with --init"):
        train_clip(settings(tmp_path / "run", init=str(text_folder), context=8))
    assert not (tmp_path / "run").exists()
