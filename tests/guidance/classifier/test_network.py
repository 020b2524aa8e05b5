"""The noisy classifier: its pools, its gradient, its folders, what it refuses."""

import copy
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.checkpoints.load import load_model
from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.reduced_precision import lowered
from glide.training.optim import split_parameters
from glide.utils.errors import InputError
from guidance.classifier import guide as classifier_guidance_module
from guidance.classifier import load as classifiers
from guidance.classifier.config import CLASSIFIERS, ClassifierConfig
from guidance.classifier.guide import check_classifier, classifier_guidance
from guidance.classifier.load import load_classifier, save_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.classifier.openai import (
    from_state_dict,
    mapping,
)
from guidance.guided_denoiser import guide
from support.classifier_config import TINY
from support.openai_nets import same_weights


def tiny_state(pool: str) -> dict[str, Tensor]:
    """A state dict, in the original's names, of the classifier with options TINY and this pool."""
    generator = torch.Generator().manual_seed(0)
    sources = mapping(TINY | {"pool": pool}).values()
    return {s.name: 0.1 * torch.randn(s.shape, generator=generator) for s in sources}


def tiny_classifier(model: ModelConfig, **changes: Any) -> NoisyClassifier:
    """Random weights, for the pictures, noise and classes of `model`."""
    config = ClassifierConfig(model.unet, model.num_classes, model.class_names, process=model.process)
    torch.manual_seed(0)
    net = NoisyClassifier(dataclasses.replace(config, **changes))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape), alpha=0.1)  # none is zero
    return net.eval()


@pytest.fixture(scope="module")
def net(class_model: Model) -> NoisyClassifier:
    return tiny_classifier(class_model.config)


# --- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["attention", "adaptive", "spatial", "spatial_v2"])
@torch.no_grad()
def test_pools(pool: str) -> None:
    """A second implementation of what follows the trunk, from the tensors by their original names."""
    state = tiny_state(pool)
    model = from_state_dict(state, TINY | {"pool": pool})
    x, t = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 40, 999])
    trunk = list(model.encoder.encode(x, model.encoder.embed(t, Conditioning()), Conditioning()))
    out = {
        key.removeprefix("out."): value.flatten(1) if value.ndim > 2 else value
        for key, value in state.items()
    }

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, out[f"{name}.weight"], out[f"{name}.bias"])

    if pool.startswith("spatial"):
        assert len(trunk) == 5  # stem, block, down, block, middle
        h = linear(torch.cat([h.mean((2, 3)) for h in trunk], 1), "0")
        if pool == "spatial":
            expected = linear(h.relu(), "2")
        else:
            expected = linear(F.silu(F.group_norm(h, 32, out["1.weight"], out["1.bias"])), "3")
    else:
        h = F.silu(F.group_norm(trunk[-1], 32, out["0.weight"], out["0.bias"])).flatten(2)  # [N,C,HW]
        if pool == "adaptive":
            expected = linear(h.mean(-1), "3")
        else:
            h = (torch.cat([h.mean(-1, keepdim=True), h], -1) + out["2.positional_embedding"]).mT
            attention = nn.MultiheadAttention(64, 4, batch_first=True)
            attention.in_proj_weight.copy_(out["2.qkv_proj.weight"])
            attention.in_proj_bias.copy_(out["2.qkv_proj.bias"])
            attention.out_proj.weight.copy_(torch.eye(64))
            attention.out_proj.bias.zero_()
            expected = linear(attention(h, h, h)[0][:, 0], "2.c_proj")
    torch.testing.assert_close(model(x, t), expected, rtol=1e-4, atol=1e-5)


def test_gradient_against_finite_differences(net: NoisyClassifier, class_model: Model) -> None:
    """In float64; the plug-in's own gradient is float32."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y, t, scale = [1, 4], 30, 5.0
    found = classifier_guidance(net, y, scale).gradient(x, t)
    exact = tiny_classifier(class_model.config).double()
    exact.encoder.time_in.register_forward_pre_hook(lambda module, args: (args[0].double(),))

    @torch.no_grad()
    def log_p(x: Tensor) -> Tensor:
        return exact(x, torch.full((2,), t)).log_softmax(-1)[[0, 1], y]

    for seed in range(3):
        d = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        slope = scale * (log_p(x.double() + 1e-5 * d) - log_p(x.double() - 1e-5 * d)) / 2e-5
        torch.testing.assert_close((found * d).sum((1, 2, 3)), slope, rtol=1e-4, atol=1e-5)


def test_muon_leaves_the_ends_to_adamw(net: NoisyClassifier) -> None:
    learned = copy.deepcopy(net).requires_grad_(True)  # the fixture's is frozen
    matrices = {id(p) for p in split_parameters(learned)[0]}
    inner = {name for name, p in learned.named_parameters() if id(p) in matrices}
    assert {"pool.qkv.weight", "encoder.time_out.weight", "encoder.down.0.res.conv_in.weight"} <= inner
    outer = {"encoder.stem.weight", "encoder.time_in.weight", "pool.positions", "pool.head.weight"}
    assert not inner & outer


def test_presets_for_the_built_in_scenes_fit_their_models_and_in_8_mib() -> None:
    for name in ("tiny", "shapes-32", "shapes-64"):
        config = dataclasses.replace(CLASSIFIERS[name], num_classes=12)
        check_classifier(config, dataclasses.replace(PRESETS[name], text=None))
        with torch.device("meta"):
            assert 2 * sum(p.numel() for p in NoisyClassifier(config).parameters()) < 8 * 2**20


# --- folders -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pool", ["attention", "spatial_v2"])
def test_a_folder_gives_the_classifier_back(class_model: Model, tmp_path: Path, pool: Any) -> None:
    net = tiny_classifier(class_model.config, pool=pool)
    save_classifier(tmp_path / "c", net, {"data": "none"})
    again = load_classifier(tmp_path / "c")
    assert again.config == net.config and same_weights(again, net) and not again.training
    save_classifier(tmp_path / "half", net, dtype=torch.float16)
    assert next(load_classifier(tmp_path / "half").parameters()).dtype == torch.float32


def test_embedded_names(net: NoisyClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "EMBEDDED", tmp_path)
    save_classifier(tmp_path / "shapes-shape", net)
    assert same_weights(load_classifier("shapes-shape"), net)
    with pytest.raises(InputError, match="did you mean 'shapes-shape'"):
        load_classifier("shapes-shap")


def test_a_model_of_another_kind_is_refused(net: NoisyClassifier, class_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds a diffusion model, expected a classifier model"):
        load_classifier(class_folder)
    save_classifier(tmp_path / "c", net)
    with pytest.raises(InputError, match="holds a classifier model, expected a diffusion model"):
        load_model(tmp_path / "c")
    (tmp_path / "64x64_diffusion.pt").touch()
    with pytest.raises(InputError, match=r"64x64_diffusion\.pt is not one of the published classifiers"):
        load_classifier(tmp_path / "64x64_diffusion.pt")
    (tmp_path / "64x64_classifier.pt").touch()
    with pytest.raises(InputError, match=r"64x64_classifier\.pt is a classifier.*give a diffusion model"):
        load_model(tmp_path / "64x64_classifier.pt")


def test_a_config_that_makes_no_classifier(net: NoisyClassifier, tmp_path: Path) -> None:
    save_classifier(tmp_path, net)
    for change, said in [
        ({"pool": "max"}, "got classifier.pool 'max', expected one of"),
        ({"poll": 1}, "unknown setting 'poll'"),
    ]:
        record = json.loads((tmp_path / "config.json").read_text())
        record["model"] |= change
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad/config.json").write_text(json.dumps(record))
        with pytest.raises(InputError, match=said):
            load_classifier(tmp_path / "bad")


# --- guidance ------------------------------------------------------------------------------------------------------


def test_labels_by_name_and_number_one_or_many(net: NoisyClassifier) -> None:
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    many = classifier_guidance(net, ["Banana", 1, "banana"], 2.0, (10, 20)).gradient(x, 15)
    one = classifier_guidance(net, "banana", 2.0).gradient(x, 15)
    assert torch.equal(many, one) and many.shape == x.shape
    assert not torch.allclose(one, classifier_guidance(net, "tench", 2.0).gradient(x, 15))
    guidance = classifier_guidance(net, "banana", 2.0, (10, 20))
    assert guidance.active(10) and guidance.active(20) and not guidance.active(21)
    assert not classifier_guidance(net, "banana", 0.0).active(15)
    assert not any(p.requires_grad for p in net.parameters())


def test_calls_of_one_size_make_a_gradient_independent_of_the_batch(net: NoisyClassifier) -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    guide = classifier_guidance(net, [0, 1, 2, 3], 1.0, call_size=2)
    half = classifier_guidance(net, [2, 3], 1.0, call_size=2)
    assert torch.equal(guide.gradient(x, 15)[2:], half.gradient(x[2:], 15))
    whole = classifier_guidance(net, [0, 1, 2, 3], 1.0).gradient(x, 15)
    torch.testing.assert_close(guide.gradient(x, 15), whole, rtol=1e-4, atol=1e-6)


def test_bfloat16_is_near(net: NoisyClassifier) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    half = classifier_guidance(lowered(net, torch.bfloat16), 1, 1.0).gradient(x, 15)
    full = classifier_guidance(net, 1, 1.0).gradient(x, 15)
    assert half.dtype == torch.float32
    assert 0 < (half - full).square().mean().sqrt() / full.std() < 0.1


def test_the_gain_on_the_way_back_changes_no_digit(
    net: NoisyClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    half = lowered(net, torch.float16)  # has no room for it
    found = classifier_guidance(net, 1, 1.0).gradient(x, 15)
    of_half = classifier_guidance(half, 1, 1.0).gradient(x, 15)
    monkeypatch.setattr(classifier_guidance_module, "GAIN", 1.0)
    assert torch.equal(found, classifier_guidance(net, 1, 1.0).gradient(x, 15))
    assert torch.equal(of_half, classifier_guidance(half, 1, 1.0).gradient(x, 15))


def test_a_classifier_that_is_sure_has_a_gradient(net: NoisyClassifier) -> None:
    """Of log p(y) = -1e-30, right in all its digits."""
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        net.pool.head.bias[1] += 68.0  # type: ignore[union-attr, index]
    found = classifier_guidance(net, 1, 1.0).gradient(x, 15)
    exact = copy.deepcopy(net).double()
    exact.encoder.time_in.register_forward_pre_hook(lambda module, args: (args[0].double(),))
    leaf = x.double().requires_grad_()
    (wanted,) = torch.autograd.grad(exact(leaf, torch.full((1,), 15)).log_softmax(-1)[0, 1], leaf)
    largest = float(wanted.abs().max())
    assert 0 < largest < 1e-28
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-4 * largest)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_log_p_rises(net: NoisyClassifier, sampler: str) -> None:
    """Pictures of white noise, whose ideal denoiser is known: both samplers go where log p is larger."""
    process = net.process.respaced(range(0, 100, 5))

    def predict(x: Tensor, t: int, conds: Sequence[Conditioning]) -> list[Prediction]:
        return [Prediction(net.process.alpha_bar[t] ** 0.5 * x)]

    ends, means = [], []
    for scale in (0.0, 100.0):
        guidance = classifier_guidance(net, "gold fish", scale)
        denoise = guide(predict, Conditioning(), [guidance])
        start, noise = (SeededNoise(range(16)) for _ in range(2))
        x = start.randn((3, 8, 8), torch.device("cpu"))
        chain = (
            ddim(process, denoise, x, noise, 0.0)
            if sampler == "ddim"
            else ancestral(process, denoise, x, noise, "fixed_small")
        )
        seen = [guidance.log_prob(x, int(t)) for x, t in zip(chain, process.timesteps[::-1], strict=True)]
        ends.append(float(seen[-1].mean()))
        means.append(float(torch.stack(seen).mean()))
    assert ends[1] > ends[0] + 0.1 and means[1] > means[0] + 0.1, (ends, means)


def test_refusals(net: NoisyClassifier, class_model: Model) -> None:
    model = class_model.config

    def refused(said: str, config: ModelConfig = model, classifier: ClassifierConfig = net.config) -> None:
        with pytest.raises(InputError, match=said):
            check_classifier(classifier, config)

    unet, process, change = model.unet, model.process, dataclasses.replace
    refused("8x8 pixels for a model of 64x64", change(model, unet=change(unet, image_size=64)))
    refused("3 channels for a model of 1", change(model, unet=change(unet, in_channels=1)))
    refused("shift 1, expected.*shift 2", change(model, process=change(process, shift=2.0)))
    refused("100 steps.*1000 steps", change(model, process=change(process, steps=1000)))
    refused("squaredcos_cap_v2.*linear", change(model, process=change(process, schedule="linear")))
    refused("zero terminal SNR", change(model, process=change(process, zero_terminal_snr=True)))
    refused("5 classes for a model of 4", change(model, num_classes=4, class_names=model.class_names[:4]))
    names = ("apple", "pear", *model.class_names[2:])
    refused("class 1 is 'banana' for a model whose class 1 is 'pear'", change(model, class_names=names))
    refused("trained on clean pictures", classifier=change(net.config, noised=False))
    # what a network was shown counts, not what its output means; a model without classes is steered to any
    other = change(process, prediction="v", variance="fixed_large")
    check_classifier(net.config, change(model, process=other, num_classes=0, class_names=()))

    with pytest.raises(InputError, match=r"'bananna'.*did you mean 'banana'"):
        classifier_guidance(net, "bananna", 1.0)
    with pytest.raises(InputError, match="class 5, expected 0 to 4"):
        classifier_guidance(net, [5], 1.0)
    with pytest.raises(InputError, match="got no label"):
        classifier_guidance(net, [], 1.0)
    with pytest.raises(InputError, match="2 labels for 3 pictures"):
        classifier_guidance(net, [0, 1], 1.0).gradient(torch.zeros(3, 3, 8, 8), 5)
    with pytest.raises(InputError, match=r"not finite from .*classifier_log_prob.* at timestep 5"):
        classifier_guidance(net, 0, 1.0).gradient(torch.full((1, 3, 8, 8), torch.nan), 5)
