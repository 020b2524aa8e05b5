"""The noisy CLIP: the original's numbers, its folder, its gradient, what it refuses.

Measured against the original (max error / std, 1 thread, fp32): captions 3.8e-7, pictures 5.1e-7, gradient 1.9e-6.
"""

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glide.checkpoints.load import load_model
from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from glide.networks.config import ModelConfig
from glide.networks.image_config import ImageConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.training.optim import split_parameters
from glide.utils.errors import InputError
from guidance.clip import load as clips
from guidance.clip.config import CLIPS
from guidance.clip.guide import clean_clip_guidance, clip_guidance
from guidance.clip.load import load_clip, save_clip
from guidance.clip.network import NoisyClip
from guidance.clip.openai import PAIR, from_state_dicts
from guidance.clip.rerank import fit_of
from guidance.compatibility import check_fits
from guidance.guided_denoiser import guide
from guidance.predicted_x0 import through_network
from support.clip_nets import LONG, RED, SQUARE, X, tiny_clip
from support.openai_nets import GOLDEN, golden, same_weights


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
    monkeypatch.setattr("guidance.clip.openai.from_state_dicts", lambda a, b: from_state_dicts(a, b, 16))
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
        (
            "image",
            {"pool": "max"},
            "describes no model that can be built: got clip.image.pool 'max', expected one of",
        ),
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

    def predict(x: Tensor, t: int, conds: Sequence[Conditioning]) -> list[Prediction]:
        return [Prediction(clip.process.alpha_bar[t] ** 0.5 * x)]

    ends = []
    for scale in (0.0, 20.0):
        if clean:
            guidance = clean_clip_guidance(clip, RED, scale, through_network(predict, Conditioning()))
        else:
            guidance = clip_guidance(clip, RED, scale)
        denoise = guide(predict, Conditioning(), [guidance])
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


def test_clip_tokenizer_of_another_size_is_refused(clip: NoisyClip, tmp_path: Path) -> None:
    other = NoisyClip(clip.config, Tokenizer.train([RED], 257, 5))
    save_clip(tmp_path / "c", other)
    with pytest.raises(InputError, match="give files of one model"):
        load_clip(tmp_path / "c")
