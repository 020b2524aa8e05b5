"""Internal guidance: the inner head of a U-Net, its training, and the contrast with it, in one call of the network."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import load_model, save_model
from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction, Predictor, Space, to_x0
from glide.diffusion.losses import loss_terms
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.self_conditioning import SelfConditioned
from glide.networks.config import ModelConfig, UNetConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.reduced_precision import lowered
from glide.networks.unet import UNet
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.training.train_base import train_base
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from guidance import ClassifierFree, Guidance, InternalGuidance, Scheduled, guide
from support.models import CAPTIONS, randomised, tiny_unet
from support.predictions import X
from support.sample_script import Capture, call, refused
from support.training_settings import settings
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

PROCESS = make_process("cosine")
NEVER = (1, 2)
MAIN, NULL = (Conditioning(torch.full((2, 8), value)) for value in (1.0, -1.0))


class Two:
    """A Predict of a network whose x0 is tanh(x + the condition), and its head's tanh(x / 2 + the condition)."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, bool]] = []

    def __call__(
        self, x: Tensor, t: int, conds: Sequence[Conditioning], inner: bool = False
    ) -> list[Prediction]:
        self.calls.append((len(conds), inner))
        return Predictor(self.network, PROCESS, "x0")(x, t, conds, inner)

    def network(self, x: Tensor, t: Tensor, cond: Conditioning, inner: bool = False) -> Tensor:
        assert cond.vector is not None
        of = cond.vector[:, :1, None, None]
        main = torch.tanh(x + of)
        return torch.cat([main, torch.tanh(x / 2 + of)], dim=1) if inner else main


def with_head(config: ModelConfig, factor: int = 2, **unet: Any) -> ModelConfig:
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, inner_head=factor, **unet))


@pytest.fixture(scope="module")
def model(text_model: Model) -> Model:
    """The text model with an inner head."""
    return randomised(Model(with_head(text_model.config), text_model.tokenizer), seed=1)


@pytest.fixture(scope="module")
def folder(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "inner"
    save_model(folder, model)
    return folder


# --- the contrast ---------------------------------------------------------------------------------------------------


def test_it_is_its_equation_in_one_call_beside_others() -> None:
    main, head, null = torch.tanh(X + 1), torch.tanh(X / 2 + 1), torch.tanh(X - 1)
    predict = Two()
    found = guide(predict, MAIN, [InternalGuidance(3.0)])(X, 500)
    torch.testing.assert_close(found.x0, head + 3.0 * (main - head))
    both = guide(predict, MAIN, [ClassifierFree(2.0, NULL), InternalGuidance(3.0)])(X, 500)
    torch.testing.assert_close(both.x0, head + 3.0 * (main - head) + (main - null))
    assert predict.calls == [(1, True), (2, True)]


def test_the_head_is_asked_for_only_where_it_counts() -> None:
    for term in (InternalGuidance(1.0), InternalGuidance(5.0, NEVER)):
        predict = Two()
        assert torch.equal(guide(predict, MAIN, [term])(X, 500).x0, torch.tanh(X + 1))
        assert predict.calls == [(1, False)]
    ramp = Scheduled(InternalGuidance(3.0), lambda share: 1.0 if share > 0.5 else 2.0)
    predict = Two()
    denoise = guide(predict, MAIN, [ramp])
    denoise(X, 900)
    denoise(X, 100)
    assert predict.calls == [(1, False), (1, True)]


@pytest.mark.parametrize("space", ["eps", "x0", "v"])
def test_the_head_predicts_in_the_space_of_its_model(space: Space) -> None:
    """The contrast in eps, converted, is the contrast in x0; calls of one picture give what one of both gives."""
    t = 400
    alpha, sigma = PROCESS.alpha_bar[t] ** 0.5, (1 - PROCESS.alpha_bar[t]) ** 0.5
    main, head = torch.tanh(X + 1), torch.tanh(X / 2 + 1)
    expected = to_x0(space, head + 2.5 * (main - head), X, alpha, sigma)
    for size in (None, 1):
        predict = Predictor(Two().network, PROCESS, space, size)
        found = guide(predict, MAIN, [InternalGuidance(2.5)])(X, t).x0
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_self_conditioned_network_keeps_one_estimate() -> None:
    predict = SelfConditioned(Two())
    guide(predict, MAIN, [InternalGuidance(2.0)])(X, 500)
    assert predict.last is not None and torch.equal(predict.last, torch.tanh(X + 1).clamp(-1, 1))


# --- the network ----------------------------------------------------------------------------------------------------


LEVELS = UNetConfig(
    image_size=16, out_channels=6, channels=32, channel_mult=(1, 2, 2), num_res_blocks=1, attention=(2,),
    head_channels=32, patch_size=2,
)  # fmt: skip


@pytest.mark.parametrize(("factor", "block"), [(2, "up.3"), (4, "up.1")])
@pytest.mark.parametrize("updown", [False, True])
def test_the_head_reads_the_last_block_of_its_level(factor: int, block: str, updown: bool) -> None:
    """Against the same layers of PyTorch on that block's output; the main output is the same bit for bit."""
    config = dataclasses.replace(LEVELS, inner_head=factor, resblock_updown=updown)
    unet = randomised(Model(ModelConfig(config)), seed=3).unet
    x, t, seen = torch.randn(2, 3, 16, 16), torch.tensor([5, 900]), {}
    with torch.no_grad():
        found = unet(x, t, Conditioning(), on_block=lambda name, h: seen.setdefault(name, h), inner=True)
        assert torch.equal(found[:, :6], unet(x, t, Conditioning()))
        h = seen[block]
        assert h.shape[-1] == 16 // factor and unet.block_names()[unet.tapped + len(unet.down) + 1] == block
        h = F.silu(F.group_norm(h, 32, unet.inner_norm.weight, unet.inner_norm.bias))
        h = F.conv2d(h, unet.inner_head.weight, unet.inner_head.bias, padding=1)
        torch.testing.assert_close(found[:, 6:], F.pixel_shuffle(h, factor), rtol=1e-4, atol=1e-4)


def test_the_head_stays_float32_in_reduced_precision(model: Model) -> None:
    unet = lowered(model.unet, torch.bfloat16)
    assert unet.inner_head.weight.dtype == unet.head.weight.dtype == torch.float32
    cond = Conditioning(tokens=torch.zeros(1, 12, 32))
    with torch.no_grad():
        found, exact = (
            net(X[:1].repeat(1, 1, 2, 2), torch.tensor([50]), cond, inner=True) for net in (unet, model.unet)
        )
    assert found.dtype == torch.float32
    assert ((found - exact).std() / exact.std()).item() < 0.05


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, about parts of its compiler
def test_both_outputs_are_one_graph(model: Model) -> None:
    """Without a break, so that --compile and CUDA graphs take the whole call."""
    cond = Conditioning(tokens=torch.zeros(1, 12, 32))
    with torch.no_grad():
        found = torch._dynamo.explain(model.unet)(
            torch.zeros(1, 3, 8, 8), torch.tensor([5]), cond, inner=True
        )
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


def test_impossible_levels_are_refused() -> None:
    for factor, message in ((3, "expected 0 for none or one of 2"), (4, "one of 2"), (1, "one of 2")):
        with pytest.raises(InputError, match=f"got inner_head {factor}, .*{message}"):
            dataclasses.replace(tiny_unet(3), inner_head=factor).check()
    with pytest.raises(InputError, match="no level below the first"):
        dataclasses.replace(tiny_unet(3), channel_mult=(1,), attention=(1,), inner_head=2).check()


def test_a_folder_of_before_has_no_head(class_model: Model) -> None:
    config = class_model.config.to_dict()
    del config["unet"]["inner_head"]
    read = ModelConfig.from_dict(config)
    assert read.unet.inner_head == 0 and not hasattr(UNet(read.unet), "inner_head")


# --- drawing --------------------------------------------------------------------------------------------------------


def drawn(model: Model, guidance: Any, pictures: int = 3, size: int = 2, **more: Any) -> Tensor:
    """More are the settings'; in calls of `size` pictures."""
    requests = [ImageRequest(i, CAPTIONS[i % 3]) for i in range(pictures)]
    how = SamplingConfig("ddim", "4", 0.0, guidance, **more)
    *_, step = Pipeline(model, call_size=size).draw(requests, how)
    return step.x


def test_a_picture_does_not_depend_on_those_beside_it(model: Model) -> None:
    for guidance in ("inner:3", "inner:1..3~cos", ("cfg:3", "inner:2@10-90")):
        assert torch.equal(drawn(model, guidance, 3)[:1], drawn(model, guidance, 1))


def test_without_strength_it_is_the_picture_of_the_model_without_a_head(
    model: Model, text_model: Model
) -> None:
    plain = Model(text_model.config, text_model.tokenizer)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if ".inner_" not in k})
    expected = drawn(plain.eval(), "none")
    for guidance in ("none", "inner:1", "inner:5@1-2"):
        assert torch.equal(drawn(model, guidance), expected), guidance
    assert torch.equal(drawn(model, "inner"), drawn(model, "inner:1.5@40-100"))  # not at the last timesteps
    assert not torch.allclose(drawn(model, "inner"), expected, atol=1e-3)


def test_one_evaluation_a_step(model: Model) -> None:
    pipe, seen = Pipeline(model, call_size=1), []
    handle = pipe.unet.register_forward_pre_hook(lambda net, args: seen.append(len(args[0])))
    *_, _ = pipe.draw([ImageRequest(0, CAPTIONS[0])], SamplingConfig("ddim", "4", 0.0, "inner:3"))
    handle.remove()
    assert seen == [1] * 4


def test_by_name_and_by_object(model: Model) -> None:
    pipe = Pipeline(model)

    def of(guidance: Guidance | str) -> Tensor:
        return pipe(CAPTIONS, num_inference_steps=4, seed=3, guidance_scale=1.0, guidances=[guidance]).tensors

    assert torch.equal(of("inner:2.5@10-90"), of(InternalGuidance(2.5, (10, 90))))


def test_known_pixels_stay(filler: Model) -> None:
    model = randomised(Model(with_head(filler.config), filler.tokenizer), seed=5)
    image = torch.rand(3, 8, 8) * 2 - 1
    mask = torch.zeros(1, 8, 8)
    mask[..., :4] = 1
    known = KnownPixels(image=image, mask=mask)
    *_, step = Pipeline(model).draw(
        [ImageRequest(0, CAPTIONS[0], given=known)], SamplingConfig("ddim", "4", 0.0, "inner:3")
    )
    assert torch.equal(step.x[0, ..., :4], image[..., :4]) and torch.isfinite(step.x).all()


def test_features_are_read_beside_it(model: Model) -> None:
    pipe = Pipeline(model)
    with pipe.features("middle") as found:
        watched = pipe(CAPTIONS[0], num_inference_steps=2, seed=1, guidances=["inner:3"]).tensors
    assert len(found["middle"]) == 2
    assert torch.equal(
        watched, pipe(CAPTIONS[0], num_inference_steps=2, seed=1, guidances=["inner:3"]).tensors
    )


def test_recipes_repeat_it(folder: Path, tmp_path: Path) -> None:
    flags = ["--model", folder, "--prompt", CAPTIONS[0], "--steps", "3", "--guidance", "inner:2~cos", "--out"]
    assert call(*flags, tmp_path / "o") == 0
    recipe = read_recipe(tmp_path / "o/00000.png")
    assert "inner:2~cos" in str(recipe["guidance"])
    assert call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "p") == 0
    assert (tmp_path / "o/00000.png").read_bytes() == (tmp_path / "p/00000.png").read_bytes()


def test_what_cannot_be_is_refused(
    folder: Path, text_folder: Path, text_model: Model, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--prompt", CAPTIONS[0], "--steps", "2", "--guidance", "inner:2", "--out", tmp_path / "o"]
    refused(call("--model", text_folder, *flags), capsys, "without an inner head, expected one that has it")
    said = "got --deep-every 2 with internal guidance"
    refused(call("--model", folder, *flags, "--deep-every", "2"), capsys, said)
    with pytest.raises(InputError, match="without an inner head"):
        Pipeline(text_model)(CAPTIONS[0], num_inference_steps=2, guidances=[InternalGuidance(2.0)])


# --- training -------------------------------------------------------------------------------------------------------


def test_its_loss_is_added_with_its_weight(class_model: Model) -> None:
    """Against both losses by themselves; a head without weight leaves the model's loss as it was, bit for bit."""
    model = randomised(Model(with_head(class_model.config)), seed=2)
    batch = {"image": torch.rand(4, 3, 8, 8) * 2 - 1, "y": torch.arange(4)}
    t, draws = torch.tensor([3, 40, 70, 99]), lambda: RowRng(0, range(4))
    with torch.no_grad():
        terms = DiffusionObjective(null_captions=0.0, inner_weight=0.3)(model, batch, t, draws())
        alone = DiffusionObjective(null_captions=0.0, inner_weight=0.0)(model, batch, t, draws())
        noise = draws().normal(batch["image"])
        x_t = model.process.q_sample(batch["image"], t, noise)
        output = model(x_t, t, {"y": batch["y"]}, inner=True)
        main, head = (
            loss_terms(model.process, DiffusionObjective().loss, out, batch["image"], x_t, t, noise)["loss"]
            for out in (output[:, :3], output[:, 3:])
        )
    assert torch.equal(alone["loss"], main)
    torch.testing.assert_close(terms["inner"], head)
    torch.testing.assert_close(terms["loss"], main + 0.3 * head)


@pytest.mark.slow
def test_training_along_and_adding_it_later(tmp_path: Path) -> None:
    """Trained alone, the head leaves all other weights as they were, bit for bit, and learns itself."""
    whole = train_base(settings(tmp_path / "along", inner_head=True, data="shapes:one"))
    assert whole.config.unet.inner_head == 2 and whole.unet.inner_head.weight.abs().max() > 0
    assert '"inner"' in (tmp_path / "along/log.jsonl").read_text()
    train_base(settings(tmp_path / "plain", data="shapes:one", train={"steps": 2}))
    added = tmp_path / "added"
    more = {
        "inner_head": True,
        "train_part": "inner-head",
        "init": str(tmp_path / "plain"),
        "data": "shapes:one",
    }
    train_base(settings(added, **more))
    before, after = (load_file(out / "model.safetensors") for out in (tmp_path / "plain", added))
    fresh = after.keys() - before.keys()
    assert fresh == {f"unet.inner_{n}.{p}" for n in ("norm", "head") for p in ("weight", "bias")}
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert after["unet.inner_head.weight"].abs().max() > 0
    # the model goes on with its head, without being told of it again
    again = train_base(settings(tmp_path / "again", init=str(added), data="shapes:one", train={"steps": 1}))
    assert load_model(tmp_path / "again").config.unet.inner_head == again.config.unet.inner_head


def test_a_head_needs_a_level_and_its_part_a_head(tmp_path: Path) -> None:
    model = {"unet.channel_mult": (1,), "unet.attention": (1,)}
    with pytest.raises(InputError, match="--inner-head for a U-Net of one level"):
        train_base(settings(tmp_path / "one", inner_head=True, model=model))
    train_base(settings(tmp_path / "plain", train={"steps": 1}))
    with pytest.raises(InputError, match=r"no inner head \(--inner-head\)"):
        train_base(settings(tmp_path / "two", init=str(tmp_path / "plain"), train_part="inner-head"))


@torch.no_grad()
def test_a_head_is_carried_over_with_its_model() -> None:
    """Into larger patches, and below a further level, with the picture enlarged; another level's begins anew."""
    tiny = dataclasses.replace(PRESETS["tiny"], text=None)
    source = randomised(Model(with_head(tiny)), seed=0)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 800])
    grown = Model(with_head(tiny, image_size=32, patch_size=2 * tiny.unet.patch_size)).eval()
    assert init_from(grown, source) == []
    enlarged = F.interpolate(x, scale_factor=2, mode="nearest")
    expected = F.interpolate(source(x, t, {}, inner=True), scale_factor=2, mode="nearest")
    torch.testing.assert_close(grown(enlarged, t, {}, inner=True), expected, rtol=1e-4, atol=1e-4)
    if len(tiny.unet.channel_mult) > 2:
        other = Model(with_head(tiny, 4)).eval()
        assert all(name.startswith("unet.inner_") for name in init_from(other, source))
