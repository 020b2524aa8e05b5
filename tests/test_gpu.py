"""The same numbers on a GPU: golden networks, pictures, a training step. Skipped where there is none."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from glide.checkpoints.openai.convert import from_state_dict
from glide.diffusion.loss_config import LossConfig
from glide.networks.compile import compiled
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from support.openai_nets import golden
from toolkit import Pipeline

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

NETS = ("glide_base", "glide_inpaint", "glide_upsampler", "adm_class_cond", "adm_legacy")


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full float32: TF32 rounds each factor to 10 bits."""
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def build(name: str) -> tuple[Model, dict[str, torch.Tensor]]:
    options, state, batch = golden(name)
    model = from_state_dict(state, options).cuda()
    return model, {key: value.cuda() for key, value in batch.items()}


def largest(output: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest error over the deviation of what is expected."""
    return float((output.float() - expected).abs().max() / expected.std())


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_the_forward_pass_is_the_originals(name: str) -> None:
    model, batch = build(name)
    assert largest(model(batch["x"], batch["timesteps"], batch), batch["output"]) <= 3e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_reduced_precision_is_near(name: str, dtype: torch.dtype) -> None:
    model, batch = build(name)
    lower_(model.unet, dtype)
    output = model(batch["x"], batch["timesteps"], batch)
    error = (output.float() - batch["output"]).square().mean().sqrt() / batch["output"].std()
    assert error < (0.03 if dtype == torch.bfloat16 else 0.005)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated"
)  # PyTorch's own, of its compiler
@torch.no_grad()
def test_compiled_and_replayed_it_is_the_same_function() -> None:
    model, batch = build("glide_base")
    network = compiled(model.unet)
    cond = model.condition(batch)
    for _ in range(3):  # the third call is a replay of the recorded graph
        output = network(batch["x"], batch["timesteps"], cond)
        assert largest(output, batch["output"]) <= 1e-4


def test_pictures_are_those_of_the_cpu_and_of_any_batch_size() -> None:
    captions = ["a red ring", "two small blue squares", "a green star above a white cross"]
    steps = {"num_inference_steps": 10, "guidance_scale": 3.0, "seed": 7}
    there, here = (Pipeline.from_pretrained("shapes", device=device) for device in ("cuda", "cpu"))
    pictures = [torch.from_numpy(_pixels(pipe(captions, **steps))) for pipe in (there, here)]
    assert (pictures[0] - pictures[1]).abs().max() <= 2
    again = torch.from_numpy(_pixels(there(captions[1:], **{**steps, "seed": 8})))
    assert torch.equal(pictures[0][1:], again)


def _pixels(result: object) -> object:
    import numpy as np

    return np.stack([np.asarray(image, dtype=np.int16) for image in result.images])  # type: ignore[attr-defined]


def test_noise_of_a_training_step_depends_on_its_row_alone() -> None:
    like = torch.empty(6, 3, 16, 16, device="cuda")
    whole, rest = RowRng(5, range(6)), RowRng(5, range(2, 6))
    for _ in range(2):
        assert torch.equal(whole.normal(like)[2:], rest.normal(like[2:]))
    x = RowRng(6, range(200)).normal(torch.empty(200, 3, 32, 32, device="cuda"))
    assert abs(x.mean().item()) < 0.01 and abs(x.std().item() - 1) < 0.01


def test_a_training_step_has_the_loss_and_gradient_of_the_cpu() -> None:
    found = []
    for device in ("cpu", "cuda"):
        options, state, batch = golden("adm_class_cond")
        model = from_state_dict(state, options).to(device)
        model.eval()  # no dropout, whose random numbers are the device's own
        config = dataclasses.replace(LossConfig(), prediction="eps")
        inputs = {"image": batch["x"].clamp(-1, 1).to(device), "y": batch["y"].to(device)}
        t = batch["timesteps"].to(device)
        loss = DiffusionObjective(config, 0.0, 0.0)(model, inputs, t, _SameNoise(0, range(len(t))))[
            "loss"
        ].mean()
        loss.backward()
        gradient = torch.cat([p.grad.flatten().cpu() for p in model.parameters() if p.grad is not None])
        found.append((loss.item(), gradient))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    assert (found[0][1] - found[1][1]).norm() < 1e-3 * found[0][1].norm()


class _SameNoise(RowRng):
    """The CPU's numbers on every device."""

    def normal(self, like: torch.Tensor) -> torch.Tensor:
        return self.noise(like)
