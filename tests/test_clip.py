"""The noisy CLIP: the original's numbers, its folder, its gradient, clean CLIPs in its place, what they refuse.

Measured against the original (max error / std, 1 thread, fp32): captions 3.8e-7, pictures 5.1e-7, gradient 1.9e-6.
"""

import dataclasses
import gzip
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from openai_nets import GOLDEN, golden, same_weights
from torch import Tensor, nn

from glide.checkpoint import load_model
from glide.conditioning import Cond
from glide.denoise import Prediction, predictor
from glide.errors import InputError
from glide.model import PRESETS, Model, ModelConfig, ProcessConfig
from glide.optim import split_parameters
from glide.samplers import SeededNoise, ancestral, ddim
from glide.tokenizer import Tokenizer
from guidance import clip as clips
from guidance.clip import CLIPS, ClipConfig, NoisyClip, load_clip, save_clip
from guidance.clip_clean import CleanClip, adapt, load_any_clip
from guidance.clip_guidance import clean_clip_guidance, clip_guidance, past_network, through_network
from guidance.clip_openai import PAIR, from_state_dicts
from guidance.compose import guide
from guidance.fits import check_fits
from guidance.rerank import fit_of, rerank
from guidance.vit import ImageConfig

RED, SQUARE = "a red circle", "a blue square"
LONG = " ".join(["circle"] * 20)
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def tiny_clip(model: Model, **changes: Any) -> NoisyClip:
    """Random weights, for the pictures, noise and words of `model`, with every kind of layer."""
    assert model.config.text is not None
    text = dataclasses.replace(model.config.text, padding=False)
    image = ImageConfig(8, 4, 32, 1, 2, stem=(16,), pool="mean")
    config = ClipConfig(image, text, 16, model.config.process)
    torch.manual_seed(0)
    clip = NoisyClip(dataclasses.replace(config, **changes), model.tokenizer)
    with torch.no_grad():
        for p in clip.parameters():
            p.add_(torch.randn(p.shape), alpha=0.1)
    return clip.eval()


@pytest.fixture(scope="module")
def clip(text_model: Model) -> NoisyClip:
    return tiny_clip(text_model)


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.detach() - expected).abs().max() / expected.std())


# --- the published one ---------------------------------------------------------------------------------------------


def golden_states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    _, state, _ = golden("noised_clip")
    image, text = (
        {k[6:]: v for k, v in state.items() if k.startswith(part)} for part in ("image.", "text.b")
    )
    return image, {k[5:]: v for k, v in state.items() if k.startswith("text.")} if text else {}


def golden_clip() -> NoisyClip:
    return from_state_dicts(*golden_states(), head_channels=16)


def test_golden_embeddings_and_gradient() -> None:
    _, _, batch = golden("noised_clip")
    net = golden_clip()
    mask = torch.arange(batch["tokens"].shape[1]) < batch["lens"][:, None]
    text = net.encode_text(batch["tokens"], mask)
    x = batch["x"].clone().requires_grad_()
    image = net.encode_image(x, batch["timesteps"])
    assert relative(text, batch["text_embedding"]) <= 2e-6
    assert relative(image, batch["image_embedding"]) <= 2e-6
    (gradient,) = torch.autograd.grad(net.scale * (text * image).sum(), x)
    assert relative(gradient, batch["gradient"]) <= 1e-5
    assert net.scale.item() == pytest.approx(100.0)


def published() -> list[dict[str, Tensor]]:
    table = json.loads(gzip.decompress((GOLDEN / "published_checkpoints.json.gz").read_bytes()))
    with torch.device("meta"):
        return [
            {
                k: torch.empty(v, dtype=torch.float16)
                for k, v in table[f"glide/{file[:-3]}"]["tensors"].items()
            }
            for file in PAIR
        ]


def test_each_published_tensor_maps_exactly_once() -> None:
    """Each is popped as it is taken, so none can be taken twice, and none may be left."""
    net = from_state_dicts(*published())
    assert net.config == CLIPS["glide"]
    assert all(p.dtype == torch.float32 for p in net.parameters())
    theirs = sum(v.numel() for state in published() for v in state.values())
    widths = 12 * 768 + 12 * 512  # of ours only: keys' biases, the patches' bias, the scale
    assert sum(p.numel() for p in net.parameters()) == theirs + widths + 768 + 1


def test_states_of_other_models() -> None:
    image, text = golden_states()
    wrong = [
        ((text, image), r"clip_image_enc\.pt lacks the tensor blocks\.input\.patch_proj"),
        (
            (image | {"blocks.more": X}, text),
            r"clip_image_enc\.pt holds 1 unexpected tensors \(blocks\.more\)",
        ),
        (
            (image, text | {"blocks.output.f.w": torch.zeros(8, 32)}),
            "blocks.output.f.w is 8x32 instead of 32x32",
        ),
        ((image, text | {"blocks.output.ln.g": 3}), "lacks the tensor blocks.output.ln.g of real numbers"),
    ]
    for states, said in wrong:
        with pytest.raises(InputError, match=said):
            from_state_dicts(*states, head_channels=16)
    with pytest.raises(InputError, match="not whole heads of 64"):
        from_state_dicts(image, text)


def write_vocabulary(folder: Path) -> None:
    """CLIP's vocabulary without its words: letters, and the two special tokens at their places."""
    folder.mkdir()
    words = {chr(97 + i): i for i in range(600)} | {"<|startoftext|>": 49406, "<|endoftext|>": 49407}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")


def test_the_published_pair_is_found_by_either_file_and_by_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidance.clip_openai.from_state_dicts", lambda a, b: from_state_dicts(a, b, 16))
    for file, state in zip(PAIR, golden_states(), strict=True):
        torch.save(state, tmp_path / file)
    for name in (tmp_path, *(tmp_path / file for file in PAIR)):
        assert same_weights(load_clip(name), golden_clip())
    with pytest.raises(InputError, match="no tokenizer"):
        clip_guidance(load_clip(tmp_path), RED, 1.0)
    assert not load_clip(tmp_path).config.text.padding
    write_vocabulary(tmp_path / "vocab")
    with pytest.raises(InputError, match=r"vocab has 602 tokens and context 20, the CLIP 500 and 20"):
        load_clip(tmp_path, vocab=str(tmp_path / "vocab"))
    (tmp_path / PAIR[1]).unlink()
    with pytest.raises(InputError, match=r"cannot read .*clip_text_enc\.pt"):
        load_clip(tmp_path / PAIR[0])
    (tmp_path / "64x64_diffusion.pt").touch()
    with pytest.raises(InputError, match="is no CLIP"):
        load_clip(tmp_path / "64x64_diffusion.pt")


# --- the network ---------------------------------------------------------------------------------------------------


def test_embeddings_are_of_unit_norm_and_see_what_they_should(clip: NoisyClip) -> None:
    with torch.no_grad():
        early, late = (clip.encode_image(X, torch.full((4,), t)) for t in (0, 99))
        assert early.shape == (4, 16) and not torch.allclose(early, late, atol=1e-3)
        torch.testing.assert_close(early.norm(dim=1), torch.ones(4))
        tokens, mask = clip.caption_batch([RED, SQUARE])
        text = clip.encode_text(tokens, mask)
        torch.testing.assert_close(text.norm(dim=1), torch.ones(2))
        assert not torch.allclose(text[0], text[1], atol=1e-3)
        # padding is not seen: the last real token has nothing but earlier ones to look at
        torch.testing.assert_close(clip.encode_text(torch.where(mask, tokens, 7), mask), text)


def test_pools_and_muon(text_model: Model) -> None:
    net = tiny_clip(text_model, image=ImageConfig(8, 4, 32, 1, 2))
    assert net.image.pool == "token" and len(net.image.stem.convs) == 0
    assert net.encode_image(X, torch.zeros(4, dtype=torch.int64)).shape == (4, 16)
    matrices = {id(p) for p in split_parameters(net)[0]}
    inner = {name for name, p in net.named_parameters() if id(p) in matrices}
    assert "image.blocks.0.qkv.weight" in inner and "text.blocks.0.mlp_in.weight" in inner
    assert all(".blocks." in name for name in inner)


def test_presets_for_the_built_in_scenes_fit_their_models_and_in_8_mib() -> None:
    for name in ("tiny", "shapes-32", "shapes-64", "glide"):
        config = CLIPS[name]
        check_fits(
            "CLIP", config.image.size, 3, config.process, PRESETS["glide-base" if name == "glide" else name]
        )
        with torch.device("meta"):
            size = 2 * sum(p.numel() for p in NoisyClip(config).parameters())
        assert name == "glide" or size < 8 * 2**20


# --- folders -------------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_clip_back(clip: NoisyClip, tmp_path: Path) -> None:
    save_clip(tmp_path / "c", clip, {"data": "none"})
    again = load_clip(tmp_path / "c")
    assert again.config == clip.config and same_weights(again, clip) and not again.training
    assert torch.equal(again.embed_captions([RED]), clip.embed_captions([RED]))
    save_clip(tmp_path / "half", clip, dtype=torch.float16)
    assert next(load_clip(tmp_path / "half").parameters()).dtype == torch.float32


def test_embedded_names(clip: NoisyClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clips, "EMBEDDED", tmp_path)
    save_clip(tmp_path / "shapes-clip", clip)
    assert same_weights(load_clip("shapes-clip"), clip)
    with pytest.raises(InputError, match="did you mean 'shapes-clip'"):
        load_clip("shapes-clop")


def test_files_of_another_kind_or_damaged(clip: NoisyClip, text_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a diffusion model, expected a clip model"):
        load_clip(text_folder)
    save_clip(tmp_path, clip)
    with pytest.raises(InputError, match="holds a clip model, expected a diffusion model"):
        load_model(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    for part, change, said in [
        ("image", {"pool": "max"}, "describes no CLIP"),
        ("image", {"pol": "max"}, "unknown setting 'pol'"),
        ("text", {"context": 9}, "context 12, the CLIP"),
    ]:
        bad = {**record, "model": record["model"] | {part: record["model"][part] | change}}
        (tmp_path / "config.json").write_text(json.dumps(bad))
        with pytest.raises(InputError, match=said):
            load_clip(tmp_path)


# --- guidance ------------------------------------------------------------------------------------------------------


def test_gradient_against_finite_differences(clip: NoisyClip, text_model: Model) -> None:
    """In float64; the plug-in's own gradient is float32."""
    t, scale = 30, 5.0
    found = clip_guidance(clip, [RED, SQUARE, RED, RED], scale).gradient(X, t)
    exact = tiny_clip(text_model).double()
    text = exact.embed_captions([RED, SQUARE, RED, RED])

    @torch.no_grad()
    def log_p(x: Tensor) -> Tensor:
        return exact.scale * (exact.encode_image(x, torch.full((4,), t)) * text).sum(1)

    for seed in range(3):
        d = torch.randn(X.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        slope = scale * (log_p(X.double() + 1e-5 * d) - log_p(X.double() - 1e-5 * d)) / 2e-5
        torch.testing.assert_close((found * d).sum((1, 2, 3)), slope, rtol=1e-4, atol=1e-4)


def test_captions_one_or_many_and_calls_of_one_size(clip: NoisyClip, text_model: Model) -> None:
    many = clip_guidance(clip, [RED] * 4, 2.0, (10, 20), model=text_model.config).gradient(X, 15)
    assert torch.equal(many, clip_guidance(clip, RED, 2.0).gradient(X, 15))
    assert not torch.allclose(many, clip_guidance(clip, SQUARE, 2.0).gradient(X, 15))
    whole = clip_guidance(clip, [RED, RED, SQUARE, RED], 1.0, call_size=2).gradient(X, 15)
    assert torch.equal(whole[2:], clip_guidance(clip, [SQUARE, RED], 1.0, call_size=2).gradient(X[2:], 15))
    guidance = clip_guidance(clip, RED, 2.0, (10, 20))
    assert guidance.active(10) and guidance.active(20) and not guidance.active(21)
    assert not clip_guidance(clip, RED, 0.0).active(15) and guidance.name == "LogLikelihood(clip_log_prob)"
    with torch.inference_mode():
        assert torch.equal(clip_guidance(clip, RED, 2.0).gradient(X, 15), many)
    half = clip_guidance(clip, RED, 2.0, dtype=torch.bfloat16).gradient(X, 15)
    assert half.dtype == torch.float32 and 0 < (half - many).square().mean().sqrt() / many.std() < 0.1


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("clean", [False, True])
def test_log_p_rises(clip: NoisyClip, sampler: str, clean: bool) -> None:
    """Pictures of white noise, whose ideal denoiser is known: both samplers go where log p is larger."""
    process = clip.process.respaced(range(0, 100, 5))

    def predict(x: Tensor, t: int, conds: Sequence[Cond]) -> list[Prediction]:
        return [Prediction(clip.process.alpha_bar[t] ** 0.5 * x)]

    ends = []
    for scale in (0.0, 20.0):
        if clean:
            guidance = clean_clip_guidance(clip, RED, scale, through_network(predict, Cond()))
        else:
            guidance = clip_guidance(clip, RED, scale)
        denoise = guide(predict, Cond(), [guidance])
        start, noise = (SeededNoise(range(8)) for _ in range(2))
        x = start.randn((3, 8, 8), torch.device("cpu"))
        if sampler == "ddpm":
            *_, x = ancestral(process, denoise, x, noise, "fixed_small")
        else:
            *_, x = ddim(process, denoise, x)
        ends.append(fit_of(clip, x, RED))
    assert (ends[1] > ends[0]).float().mean() > 0.8 and (ends[1] - ends[0]).mean() > 0.1


def test_refusals(clip: NoisyClip, text_model: Model) -> None:
    for captions in ("", " ", [RED, ""], []):
        with pytest.raises(InputError, match="empty caption for CLIP guidance"):
            clip_guidance(clip, captions, 1.0)
    with pytest.raises(InputError, match=r"caption is longer than 12 tokens.*shorten the caption"):
        clip_guidance(clip, [RED, LONG], 1.0)
    with pytest.raises(InputError, match="got 2 captions for 4 pictures"):
        clip_guidance(clip, [RED, RED], 1.0).gradient(X, 3)

    def model(**changes: Any) -> ModelConfig:
        unet = {k: changes.pop(k) for k in ("image_size", "in_channels") if k in changes}
        process = dataclasses.replace(text_model.config.process, **changes)
        return ModelConfig(dataclasses.replace(text_model.config.unet, **unet), process=process)

    for wrong, said in [
        ({"image_size": 16}, "a CLIP of 8x8 pixels for a model of 16x16"),
        ({"in_channels": 1}, "a CLIP of 3 channels for a model of 1"),
        ({"steps": 50}, "100 steps, shift 1, expected the model's, squaredcos_cap_v2, 50 steps"),
        ({"shift": 2.0}, "expected the model's, .*shift 2: train one with --like"),
        ({"schedule": "linear"}, "expected the model's, linear"),
    ]:
        with pytest.raises(InputError, match=said):
            clip_guidance(clip, RED, 1.0, model=model(**wrong))
    clip_guidance(clip, RED, 1.0, model=model(schedule="cosine", prediction="x0"))  # the same noise


# --- clean CLIPs ---------------------------------------------------------------------------------------------------


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
    predict = predictor(net, process, "eps")
    clean = adapt(StandIn(size=8, dtype=torch.float64), by_colour)
    x, t = X.double(), 40
    alpha, sigma = math.sqrt(process.alpha_bar[t]), math.sqrt(1 - process.alpha_bar[t])

    def log_p(x: Tensor, eps: Tensor) -> Tensor:
        x0 = (x - sigma * eps) / alpha
        return clean.scale * (clean.embed_images(x0) * clean.embed_captions([RED])).sum(1)

    d = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = [x + 1e-5 * d, x - 1e-5 * d]
    for x0_of, epsilons in [
        (through_network(predict, Cond()), [torch.sin(2 * end) for end in ends]),
        (past_network(predict, Cond(), process), [torch.sin(2 * x)] * 2),
    ]:
        gradient = clean_clip_guidance(clean, RED, 3.0, x0_of).gradient(x, t)
        up, down = (log_p(end, eps) for end, eps in zip(ends, epsilons, strict=True))
        torch.testing.assert_close(
            (gradient * d).sum((1, 2, 3)), 3.0 * (up - down) / 2e-5, rtol=1e-5, atol=1e-5
        )


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


def test_any_clip_is_found(clip: NoisyClip, tmp_path: Path) -> None:
    save_clip(tmp_path / "c", clip)
    assert isinstance(load_any_clip(tmp_path / "c"), NoisyClip)
    with pytest.raises(InputError, match="no model 'nothing'"):
        load_any_clip("nothing")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
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


def test_clip_tokenizer_of_another_size_is_refused(clip: NoisyClip, tmp_path: Path) -> None:
    other = NoisyClip(clip.config, Tokenizer.train([RED], 257, 5))
    save_clip(tmp_path / "c", other)
    with pytest.raises(InputError, match="give files of one model"):
        load_clip(tmp_path / "c")
