"""Clean CLIPs in the noisy one's place, and reranking by either."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predictor
from glide.networks.config import ProcessConfig
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.utils.errors import InputError
from guidance.clip.guide import clean_clip_guidance
from guidance.clip.load import save_clip
from guidance.clip.network import NoisyClip
from guidance.clip.pretrained import CleanClip, adapt, load_any_clip
from guidance.clip.rerank import fit_of, rerank
from guidance.predicted_x0 import past_network, through_network
from support.clip_nets import LONG, RED, SQUARE, X, tiny_clip


@pytest.fixture(scope="module")
def clip(text_model: Model) -> NoisyClip:
    return tiny_clip(text_model)


class StandIn(nn.Module):
    """A CLIP of another library: the mean colour of a picture, and one direction for each caption."""

    def __init__(self, size: int = 4, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        self.weight = nn.Parameter(torch.eye(3, dtype=dtype))
        self.visual = SimpleNamespace(input_resolution=size)
        self.seen: list[Tensor] = []

    def parameters(self, recurse: bool = True) -> Any:
        return iter([self.weight])

    def encode_image(self, image: Tensor) -> Tensor:
        self.seen.append(image.detach())
        return image.mean((2, 3)) @ self.weight

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.weight[tokens[:, 0]]


def by_colour(captions: list[str]) -> Tensor:
    if max(map(len, captions)) > 40:
        raise RuntimeError("Input is too long for context length 77")
    return torch.tensor([[["red", "green", "blue"].index(c.split()[1]), 0] for c in captions])


def test_a_stand_in_is_adapted() -> None:
    model = StandIn()
    clean = adapt(model, by_colour)
    assert clean.size == 4 and clean.scale == pytest.approx(20.0) and not model.weight.requires_grad
    red = torch.tensor([1.0, -1.0, -1.0])[None, :, None, None].expand(1, 3, 8, 8)
    features = clean.embed_images(red)
    mean, std = torch.tensor(clean.mean), torch.tensor(clean.std)
    torch.testing.assert_close(model.seen[0].mean((2, 3))[0], (torch.tensor([1.0, 0.0, 0.0]) - mean) / std)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(1))
    assert fit_of(clean, torch.cat([red, -red]), RED).argmax() == 0
    assert adapt(StandIn(dtype=torch.float64), by_colour).embed_images(red).dtype == torch.float64
    with pytest.raises(InputError, match=r"cannot read the caption \(Input is too long.*shorten it"):
        clean.embed_captions(["a red " + LONG])
    with pytest.raises(InputError, match="longer than 2 tokens: shorten the caption"):
        adapt(model, lambda captions: torch.tensor([[0, 49407]])).embed_captions([RED])


def test_what_is_no_clip() -> None:
    with pytest.raises(InputError, match="got a Linear as a CLIP"):
        adapt(nn.Linear(2, 2), by_colour)
    with pytest.raises(InputError, match="does not say how large its pictures are"):
        adapt(SimpleNamespace(encode_image=None, encode_text=None), by_colour)
    assert adapt(SimpleNamespace(encode_image=None, encode_text=None), by_colour, size=8).scale == 100.0
    open_clip = StandIn()
    open_clip.visual = SimpleNamespace(image_size=(6, 6), image_mean=(0.5,) * 3, image_std=(0.25,) * 3)
    assert adapt(open_clip, by_colour).size == 6 and adapt(open_clip, by_colour).mean == (0.5,) * 3


def test_the_predicted_x0_through_and_past_the_network() -> None:
    """Through it the gradient is that of the whole function; past it eps is a constant."""
    process = ProcessConfig(steps=100).build()
    net = lambda x, t, cond: torch.sin(2 * x)
    predict = Predictor(net, process, "eps")
    clean = adapt(StandIn(size=8, dtype=torch.float64), by_colour)
    x, t = X.double(), 40
    alpha, sigma = math.sqrt(process.alpha_bar[t]), math.sqrt(1 - process.alpha_bar[t])

    def log_p(x: Tensor, eps: Tensor) -> Tensor:
        x0 = (x - sigma * eps) / alpha
        return clean.scale * (clean.embed_images(x0) * clean.embed_captions([RED])).sum(1)

    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = [x + 1e-5 * d, x - 1e-5 * d]
    for x0_of, epsilons in [
        (through_network(predict, Conditioning()), [torch.sin(2 * end) for end in ends]),
        (past_network(predict, Conditioning(), process), [torch.sin(2 * x)] * 2),
    ]:
        gradient = clean_clip_guidance(clean, RED, 3.0, x0_of).gradient(x, t)
        up, down = (log_p(end, eps) for end, eps in zip(ends, epsilons, strict=True))
        torch.testing.assert_close(
            (gradient * d).sum((1, 2, 3)), 3.0 * (up - down) / 2e-5, rtol=1e-5, atol=1e-5
        )


@pytest.mark.slow
def test_transformers_clip(tmp_path: Path) -> None:
    """A tiny one in transformers' format, with the tokenizer of a few words."""
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=sizes | {"vocab_size": 300, "max_position_embeddings": 16, "bos_token_id": 1},
        vision_config=sizes | {"image_size": 16, "patch_size": 8},
        projection_dim=8,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="there is no tokenizer"):
        load_any_clip(tmp_path)
    Tokenizer.train([RED, SQUARE], 290, 16).save(tmp_path / "words.json")
    PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "words.json"), pad_token="!").save_pretrained(
        tmp_path
    )
    clean = load_any_clip(tmp_path)
    images = X.clone().requires_grad_()
    features = clean.embed_images(images)
    assert isinstance(clean, CleanClip) and clean.size == 16 and features.shape == (4, 8)
    assert clean.embed_captions([RED, SQUARE]).shape == (2, 8)
    assert torch.autograd.grad(features.sum(), images)[0].abs().sum() > 0
    with pytest.raises(InputError, match=r"longer than 16 tokens \(\d+\)"):
        clean.embed_captions([LONG])
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_any_clip(tmp_path)
    whole = json.loads((tmp_path / "config.json").read_text())
    for name, value in (
        ("num_hidden_layers", 10**9),
        ("hidden_size", 0.5),
        ("vocab_size", -1),
        ("patch_size", "x"),
    ):
        lying = {**whole, "vision_config": {**whole["vision_config"], name: value}}
        (tmp_path / "config.json").write_text(json.dumps(lying))
        with pytest.raises(
            InputError, match=rf"got vision_config\.{name} in .*config\.json {value}|'x', expected"
        ):
            load_any_clip(tmp_path)


def test_any_clip_is_found(clip: NoisyClip, tmp_path: Path) -> None:
    save_clip(tmp_path / "c", clip)
    assert isinstance(load_any_clip(tmp_path / "c"), NoisyClip)
    with pytest.raises(InputError, match="no model 'nothing'"):
        load_any_clip("nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_any_clip(tmp_path)


# --- reranking -----------------------------------------------------------------------------------------------------


def test_rerank_keeps_the_best_in_order(clip: NoisyClip) -> None:
    clean = CleanClip(
        lambda x: torch.stack([x[:, 0, 0, 0], torch.ones(len(x))], 1),
        lambda captions: torch.tensor([[1.0, 0.0]]).expand(len(captions), -1),
        size=1,
    )
    images = torch.tensor([0.1, 0.9, -0.5, 0.9, 0.3])[:, None, None, None].expand(-1, 3, 2, 2)
    assert rerank(clean, images, RED, 5) == [1, 3, 4, 0, 2]
    assert rerank(clean, images, RED, 2) == [1, 3]
    for keep in (0, 6):
        with pytest.raises(InputError, match=f"got {keep} pictures to keep of 5"):
            rerank(clean, images, RED, keep)
    with pytest.raises(InputError, match="empty caption"):
        rerank(clean, images, "", 1)
    with pytest.raises(InputError, match="longer than 12 tokens"):
        rerank(clip, X, LONG, 1)


def test_a_noisy_clip_ranks_clean_pictures_of_any_size(clip: NoisyClip) -> None:
    scores = fit_of(clip, X, RED)
    t = torch.zeros(4, dtype=torch.int64)
    expected = (clip.encode_image(X, t) * clip.embed_captions([RED])).sum(1)
    torch.testing.assert_close(scores, expected.detach())
    large = torch.nn.functional.interpolate(X, (32, 32), mode="nearest")
    assert fit_of(clip, large, RED).shape == (4,) and rerank(clip, large, RED, 1)[0] in range(4)
