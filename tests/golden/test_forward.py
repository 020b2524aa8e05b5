"""One network call against the original implementations: the same function, to float32's rounding.

Measured (max error / std of the output, 1 thread): glide_base 3.9e-6, glide_inpaint 3.8e-6, glide_upsampler 5.2e-6,
adm_class_cond 3.5e-6, adm_legacy 3.0e-6. Against our network in float64, both are as far off (3e-6 to 6e-6).
"""

import pytest
import torch
from torch import Tensor

from glide.checkpoints.openai.convert import from_state_dict
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_
from support.openai_nets import golden

TEXT = ("glide_base", "glide_inpaint", "glide_upsampler")
NETS = (*TEXT, "adm_class_cond", "adm_legacy")


def build(name: str, **changes: object) -> tuple[Model, dict[str, Tensor]]:
    options, state, batch = golden(name)
    return from_state_dict(state, options | changes), batch


def relative_error(output: Tensor, expected: Tensor) -> float:
    return float((output.detach().float() - expected).abs().max() / expected.std())


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_forward_is_the_originals(name: str) -> None:
    model, batch = build(name)
    output = model(batch["x"], batch["timesteps"], batch)
    assert output.shape == batch["output"].shape and output.dtype == torch.float32
    assert relative_error(output, batch["output"]) <= 1e-5


@pytest.mark.parametrize("name", ["adm_class_cond", "adm_legacy"])
@torch.no_grad()
def test_the_golden_files_tell_the_attention_layouts_apart(name: str) -> None:
    """The same weights in the other layout fit as well, and are another function: only these files can tell."""
    other = not golden(name)[0]["use_new_attention_order"]
    model, batch = build(name, use_new_attention_order=other, num_head_channels=16)
    assert relative_error(model(batch["x"], batch["timesteps"], batch), batch["output"]) > 1e-3


@pytest.mark.parametrize("name", TEXT)
@torch.no_grad()
def test_the_null_caption_needs_no_tokens(name: str) -> None:
    """Row 1 is the null caption: with an all-False mask the token ids do not matter."""
    model, batch = build(name)
    tokens = torch.where(batch["mask"], batch["tokens"], 7)
    assert not torch.equal(tokens, batch["tokens"]) and not batch["mask"][1].any()
    output = model(batch["x"], batch["timesteps"], batch | {"tokens": tokens})
    assert torch.equal(output, model(batch["x"], batch["timesteps"], batch))


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_channels_last_changes_the_memory_not_the_numbers(name: str) -> None:
    model, batch = build(name)
    model = model.to(memory_format=torch.channels_last)
    x = batch["x"].contiguous(memory_format=torch.channels_last)
    assert (
        relative_error(model(x, batch["timesteps"], batch), batch["output"]) <= 2e-5
    )  # measured: 9e-6 at most


@pytest.mark.slow
@pytest.mark.parametrize("name", ["glide_inpaint", "adm_legacy"])
def test_gradient_checkpointing_changes_nothing(name: str) -> None:
    """Outputs and all gradients are equal bit for bit, dropout included."""
    results = []
    for checkpointing in (False, True):
        model, batch = build(name)
        model.train()
        model.unet.gradient_checkpointing = checkpointing
        torch.manual_seed(0)
        output = model(batch["x"], batch["timesteps"], batch)
        (output * batch["output"]).sum().backward()
        results.append((output, {key: p.grad for key, p in model.named_parameters()}))
    (plain, plain_grads), (checkpointed, grads) = results
    assert torch.equal(plain, checkpointed)
    assert relative_error(plain, batch["output"]) > 0.01  # dropout was on
    for key, grad in grads.items():
        assert grad is not None and torch.equal(grad, plain_grads[key]), key


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("autocast", [True, False], ids=["training", "sampling"])
@torch.no_grad()
def test_bfloat16_is_near(name: str, autocast: bool) -> None:
    """Root mean square: 1.1% to 1.6% of the output's standard deviation was measured."""
    model, batch = build(name)
    if autocast:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = model(batch["x"], batch["timesteps"], batch)
    else:
        lower_(model.unet, torch.bfloat16)
        output = model(batch["x"], batch["timesteps"], batch)
    assert output.dtype == (torch.bfloat16 if autocast else torch.float32)
    error = (output.float() - batch["output"]).square().mean().sqrt() / batch["output"].std()
    assert 1e-3 < error < 0.03
