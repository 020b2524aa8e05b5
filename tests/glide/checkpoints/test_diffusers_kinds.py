"""Pipelines of diffusers of every kind as models, against diffusers' own pipelines, on small random ones."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.load import load_model, read_model_config
from glide.checkpoints.provenance import fingerprint
from glide.diffusion.samplers.base import SeededNoise
from glide.networks.image_request import NO_PIXELS, ImageRequest, KnownPixels
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from guidance.options import Options
from support.diffusers_pipelines import KINDS, QUIET, change, copy_with, diffusers, schedulers, write_pipeline
from toolkit import Pipeline
from toolkit.pipelines.inpaint import inpaint as paint
from toolkit.pipelines.inpaint import plan
from toolkit.pipelines.settings import SamplingConfig

pytestmark = QUIET
STEPS, SCALE, CAPTION, SEED = 10, 7.5, "a red circle", 3
SOLVERS = ("ddim", "dpmpp-2m", "euler", "lms")
KINDS_HERE = ("latent", "latent-text", "inpaint", "transformer")
SIDE = 8  # of what the networks draw


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("kinds")
    return {kind: write_pipeline(place / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def pairs(folders: dict[str, Path]) -> dict[str, tuple[Any, Pipeline]]:
    """diffusers' pipeline and ours of one folder."""
    found = {}
    for kind in KINDS_HERE:
        reference = diffusers.DiffusionPipeline.from_pretrained(folders[kind])
        reference.set_progress_bar_config(disable=True)
        found[kind] = reference, load(folders[kind])
    return found


def load(folder: Path, dtype: str = "float32") -> Pipeline:
    return Pipeline.from_pretrained(folder, device="cpu", dtype=dtype, call_size=1)


def noise(channels: int) -> Tensor:
    """Of SEED, as a drawing begins."""
    return SeededNoise([SEED]).randn((channels, SIDE, SIDE), torch.device("cpu"))


def picture() -> tuple[Tensor, Tensor]:
    """A picture [3,16,16] in [0, 1] and its mask [1,16,16], 1 where it is to be painted: whole latents."""
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:12, 8:] = 1
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    return (image * 255).round() / 255, mask


@contextmanager
def scaled_inside(pipe: Any, network: Any) -> Iterator[None]:
    """Leave the scaling of x_t to the network: some pipelines forget it, or step from the scaled one."""
    scheduler, scale = pipe.scheduler, pipe.scheduler.scale_model_input

    def before(_: Any, args: tuple[Any, ...], more: dict[str, Any]) -> tuple[Any, Any]:
        t = args[1] if len(args) > 1 else more["timestep"][0]
        return (scale(args[0], t), *args[1:]), more

    scheduler.scale_model_input = lambda x, *_: x
    handle = network.register_forward_pre_hook(before, with_kwargs=True)
    yield
    handle.remove()


def theirs(kind: str, pipe: Any, x: Tensor, patch: pytest.MonkeyPatch) -> np.ndarray:
    """The picture [16,16,3] of diffusers' own pipeline that begins with x_t = x."""
    scheduler = pipe.scheduler
    scheduler.set_timesteps(STEPS)
    if hasattr(scheduler, "sigmas") and not hasattr(scheduler.config, "solver_order"):
        x = x * (scheduler.sigmas.max() ** 2 + 1) ** 0.5  # its x is x_t / alpha_t
    unit = x / scheduler.init_noise_sigma
    common = {"num_inference_steps": STEPS, "output_type": "np"}
    guided = {"guidance_scale": SCALE, **common}
    module = import_module(type(pipe).__module__)
    if kind == "latent":
        patch.setattr(module, "randn_tensor", lambda *_, **__: unit)
        return pipe(**common).images[0]
    if kind == "transformer":  # it begins with the noise as it is
        patch.setattr(module, "randn_tensor", lambda *_, **__: x)
        with scaled_inside(pipe, pipe.transformer):
            return pipe([207], **guided).images[0]
    if kind == "latent-text":  # this one, too
        with scaled_inside(pipe, pipe.unet):
            return pipe(CAPTION, height=64, width=64, latents=x, **guided).images[0]
    image, mask = (
        Image.fromarray((part.permute(1, 2, 0).squeeze(-1).numpy() * 255).round().astype(np.uint8))
        for part in picture()
    )
    size = {"height": 16, "width": 16}
    more = {"image": image, "mask_image": mask, "negative_prompt": "blue", "latents": unit}
    return pipe(CAPTION, **more, **size, **guided).images[0]


def ours(kind: str, pipe: Pipeline, solver: str) -> np.ndarray:
    """The same by this project."""
    options = Options(negative="blue") if kind == "inpaint" else Options()
    guidance = "none" if kind == "latent" else "cfg"
    settings = SamplingConfig(solver, str(STEPS), 0.0, guidance, SCALE, options, spacing="trailing")
    given = NO_PIXELS
    if kind == "inpaint":
        image, mask = picture()
        given = KnownPixels(image=2 * image - 1, mask=1 - mask)
    caption, label = (CAPTION, None) if pipe.model.config.reads_captions else ("", 207)
    *_, last = pipe.draw([ImageRequest(SEED, caption, label, given)], settings)
    return (last.x[0] / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("kind", KINDS_HERE)
def test_pictures_are_those_of_diffusers(
    kind: str, solver: str, pairs: dict[str, tuple[Any, Pipeline]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # here the long last steps of few are of first order, there they are not
    monkeypatch.setattr("glide.diffusion.samplers.base.MAX_STEP_GROWTH", float("inf"))
    reference, pipe = pairs[kind]
    reference.scheduler = schedulers()[solver]
    calls = {"theirs": 0, "ours": 0}

    def counted(who: str) -> Any:
        return lambda *_: calls.__setitem__(who, calls[who] + 1)

    network = reference.transformer if kind == "transformer" else reference.unet
    handles = [
        network.register_forward_hook(counted("theirs")),
        pipe.unet.register_forward_hook(counted("ours")),
    ]
    expected = theirs(kind, reference, noise(pipe.model.config.unet.in_channels), monkeypatch)
    found = ours(kind, pipe, solver)
    for handle in handles:
        handle.remove()
    if kind == "inpaint":  # theirs has the known part as its network draws it, too
        inner = picture()[1][0].numpy() > 0
        found, expected = found[inner], expected[inner]
    assert expected.std() > 0.01 and np.isfinite(expected).all()
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()
    assert calls == {"theirs": STEPS, "ours": STEPS}


def test_schedulers_of_one_process_are_read_as_one(folders: dict[str, Path], tmp_path: Path) -> None:
    found = [
        read_model_config(copy_with(folders["latent"], tmp_path / name, scheduler)).process
        for name, scheduler in schedulers().items()
    ]
    assert len(set(found)) == 1 and found[0].schedule == "quadratic"


def test_classes_of_a_transformer_by_number_and_by_any_of_their_names(
    pairs: dict[str, tuple[Any, Pipeline]],
) -> None:
    config = pairs["transformer"][1].model.config
    assert config.num_classes == 1000 and config.null_class and config.process.variance == "learned"
    for name, number in (
        ("tench", 0),
        ("Tinca tinca", 0),
        ("Tench, tinca tinca", 0),
        ("GOLDFISH", 1),
        ("7", 7),
    ):
        assert class_number(config, name) == number
    with pytest.raises(InputError, match="did you mean 'goldfish'"):
        class_number(config, "golfish")


def test_a_transformer_has_its_layers_and_squares_alone(pairs: dict[str, tuple[Any, Pipeline]]) -> None:
    pipe = pairs["transformer"][1]
    assert list(pipe.unet.attention_layers()) == ["block.0", "block.1", "middle"]
    draw = {"label": 3, "seed": 0, "num_inference_steps": 2, "output_type": "latent"}
    plain = pipe(**draw, guidances="none").images
    guided = [
        pipe(**draw, guidances="pag:3", options=Options(pag_layers=layers)).images
        for layers in ("block.0", "block.1", "middle")
    ]
    assert all(torch.isfinite(one).all() and not torch.allclose(plain, one) for one in guided)
    assert torch.equal(guided[1], guided[2]) and not torch.allclose(guided[0], guided[1])
    larger = pipe(**draw, guidances="none", width=24, height=24).images
    assert larger.shape[-2:] == (12, 12) and torch.isfinite(larger).all()
    with pytest.raises(InputError, match="for a transformer of diffusers, expected a square"):
        pipe(**draw, guidances="none", width=24, height=16)


def test_nothing_known_is_a_grey_picture_and_a_mask_of_all(pairs: dict[str, tuple[Any, Pipeline]]) -> None:
    model = pairs["inpaint"][1].model
    (part,) = model.parts
    planes = model.condition_on_images(model.nothing_known(2)).planes
    grey = model.first_stage.encode(torch.zeros(1, 3, 16, 16))
    assert planes is not None and planes.shape == (2, part.channels, SIDE, SIDE)
    assert torch.equal(planes[:, :1], torch.ones(2, 1, SIDE, SIDE))
    assert torch.allclose(planes[1:, 1:], grey, atol=1e-6)


@pytest.mark.parametrize("method", ["model", "repaint"])
def test_inpainting_keeps_every_pixel_outside(method: str, pairs: dict[str, tuple[Any, Pipeline]]) -> None:
    image, mask = picture()
    mask[:, 5, 5] = 1  # no whole latents
    rgb, unknown = (image * 255).round().byte().permute(1, 2, 0).numpy(), mask[0].bool().numpy()
    pipe = pairs["inpaint"][1]
    assert plan(pipe, unknown, SamplingConfig()).method == "model"
    how = plan(pipe, unknown, SamplingConfig(respacing="3"), method)
    (found,) = paint(pipe, rgb, unknown, [ImageRequest(SEED, CAPTION)], how)
    assert np.array_equal(found[~unknown], rgb[~unknown]) and not np.array_equal(found[unknown], rgb[unknown])


@pytest.mark.parametrize("kind", ["latent", "latent-text", "transformer"])
def test_what_is_this_projects_works(kind: str, folders: dict[str, Path]) -> None:
    pipe = load(folders[kind], "bfloat16")
    more: dict[str, Any] = {"num_inference_steps": 3, "seed": 1, "output_type": "pt"}
    more |= {"latent": {}, "latent-text": {"prompt": CAPTION}, "transformer": {"label": 1}}[kind]
    image, mask = picture()
    for edit in ({}, {"image": image, "strength": 0.5}, {"image": image, "mask_image": mask}):
        found = pipe(**more, **edit).images
        assert found.shape == (1, 3, 16, 16) and torch.isfinite(found).all()
    kept = (mask == 0).expand(3, -1, -1)
    assert torch.equal((found[0] * 255).round()[kept], (image * 255).round()[kept])


@pytest.mark.parametrize(
    ("kind", "file", "changes", "message"),
    [
        (
            "transformer",
            "model_index.json",
            {"id2label": {"1000": "no"}},
            "id2label of '1000', expected names",
        ),
        (
            "transformer",
            "model_index.json",
            {"transformer": ["my_code", "DiT"]},
            "expected a DiTTransformer2DModel",
        ),
        (
            "transformer",
            "transformer/config.json",
            {"norm_type": "layer_norm"},
            "norm_type 'layer_norm', expected",
        ),
        (
            "transformer",
            "transformer/config.json",
            {"patch_size": 3},
            "patch_size 3, expected one of 1, 2, 4",
        ),
        ("transformer", "transformer/config.json", {"in_channels": 9}, "9 input channels for latents of 4"),
        (
            "transformer",
            "vae/config.json",
            {"_class_name": "VQModel"},
            "of a 'VQModel', expected an AutoencoderKL",
        ),
        ("latent", "vqvae/config.json", {"vq_embed_dim": 7}, "codebook 7 wide for 3 latent channels"),
        ("latent", "vqvae/config.json", {"num_vq_embeddings": 17}, "does not fit its config.json"),
        (
            "latent-text",
            "bert/config.json",
            {"model_type": "bert"},
            "of the model_type 'bert', expected a ldmbert",
        ),
        ("latent-text", "bert/config.json", {"encoder_layers": 10**9}, "encoder_layers in"),
        ("latent-text", "bert/config.json", {"d_model": 32}, "for tokens 16 wide and 0 classes"),
        ("score", "scheduler/scheduler_config.json", {"sigma_max": 0.001}, "got the sigmas 0.02, 0.002"),
        (
            "score",
            "unet/config.json",
            {"time_embedding_type": "positional"},
            "'positional', expected fourier",
        ),
    ],
)
def test_parts_that_do_not_fit_are_one_sentence(
    kind: str, file: str, changes: dict, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    copy_with(folders[kind], tmp_path)
    text = (tmp_path / file).read_text()
    (tmp_path / file).unlink()  # a link
    (tmp_path / file).write_text(text)
    change(tmp_path / file, **changes)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("kind", ["latent-text", "transformer"])
def test_other_parts_make_another_fingerprint(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    copy_with(folders[kind], tmp_path, schedulers(prediction_type="v_prediction")["ddim"])
    assert fingerprint(load_model(tmp_path)) != fingerprint(load_model(folders[kind]))


def test_transformers_of_before_they_had_a_class_of_their_own(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    copy_with(folders["transformer"], tmp_path)
    index, config = tmp_path / "model_index.json", tmp_path / "transformer" / "config.json"
    old = {"cross_attention_dim": None, "double_self_attention": False, "num_vector_embeds": None}
    for path, changes in (
        (index, {"transformer": ["diffusers", "Transformer2DModel"]}),
        (config, {"_class_name": "Transformer2DModel", **old}),
    ):
        table = {**json.loads(path.read_text()), **changes}
        path.unlink()  # a link
        path.write_text(json.dumps(table))
    x, t = noise(4), torch.tensor([3])
    expected, found = (load_model(place) for place in (folders["transformer"], tmp_path))
    with torch.no_grad():
        cond = expected.encode({"y": torch.tensor([1])})
        assert torch.equal(found.unet(x, t, cond), expected.unet(x, t, cond))


@pytest.mark.parametrize("kind", ["latent-text", "inpaint", "transformer"])
def test_only_what_is_needed_is_fetched_from_the_hub(
    kind: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, fetched = "0123456789" * 4, []
    place = tmp_path / "snapshots" / commit

    def download(hub_id: str, revision: str | None, allow_patterns: list[str]) -> str:
        fetched.append(set(allow_patterns))
        for file in folders[kind].rglob("*"):
            name = str(file.relative_to(folders[kind]))
            if name in allow_patterns:
                assert len(fetched) == 2 or file.suffix == ".json"
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                (place / name).write_bytes(file.read_bytes())
        return str(place)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    model = load_model("someone/model@main")
    assert model.commit == commit and len(fetched) == 2
    assert fingerprint(model) == fingerprint(load_model(folders[kind]))
