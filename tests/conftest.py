"""What several tests need: one thread, one type, and tiny models with random weights, in memory and as folders."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from glide.checkpoints.load import save_model
from glide.networks.model import Model, ModelConfig, ProcessConfig, TextConfig
from glide.networks.tokenizer import Tokenizer
from glide.networks.unet import UNetConfig
from glide.utils import dtype as dtype
from upsampler.presets import UPSAMPLERS

# tiny tensors: threads only wait for each other, and for whoever else runs here; more are for who asks for them
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

# a compiler's cache of its own: kernels that were compiled there for another processor, or half, abort the process
_compiled = tempfile.TemporaryDirectory(prefix="glide-inductor-", ignore_cleanup_errors=True)
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _compiled.name)

CAPTIONS = ["a red circle", "a blue square above a green ring", "three yellow stars on a black background"]
CLASSES = ("apple", "banana", "golden retriever", "gold fish", "tench")


def tiny_unet(out_channels: int) -> UNetConfig:
    """A U-Net with every kind of layer, small enough for a step to take about a millisecond."""
    return UNetConfig(
        image_size=8,
        out_channels=out_channels,
        channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention=(2,),
        head_channels=32,
    )


def randomised(model: Model, seed: int) -> Model:
    """Weights that depend on the seed alone, and none is zero: else every picture would be the same."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            draw = torch.randn(weight.shape, generator=generator)
            if weight.ndim == 1:  # biases, and the norms' weights
                weight.copy_(0.1 * draw + float(name.endswith("weight")))
            else:  # embeddings are large, so that conditions are seen in the picture
                weight.copy_(draw if id(weight) in embeddings else draw * weight[0].numel() ** -0.5)
    return model.eval()


def close(a: Tensor, b: Tensor) -> None:
    """Pictures by other network calls: the noisiest step magnifies the last bits of epsilon."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-3)


@pytest.fixture(autouse=True, scope="session")
def auto_is_float32() -> Iterator[None]:
    """`auto` is float32 in this process, lest a test depend on the processor; tests/test_dtype.py asks the real one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dtype, "multiplies_fast", lambda device, of: of == torch.float32)
        yield


@pytest.fixture
def threads() -> Iterator[None]:
    """PyTorch's number of threads, put back after a test that sets it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def text_model() -> Model:
    """Draws captions: 8x8, predicts eps with a learned variance."""
    tokenizer = Tokenizer.train(CAPTIONS, vocab_size=300, context=12)
    text = TextConfig(vocab=tokenizer.n_vocab, context=12, width=32, layers=1, heads=2)
    config = ModelConfig(tiny_unet(6), text, process=ProcessConfig(steps=100))
    return randomised(Model(config, tokenizer), seed=1)


@pytest.fixture(scope="session")
def class_model() -> Model:
    """Draws classes, a null class too: 8x8, predicts x0."""
    process = ProcessConfig(steps=100, prediction="x0", variance="fixed_small")
    config = ModelConfig(tiny_unet(3), None, len(CLASSES), True, CLASSES, process=process)
    return randomised(Model(config), seed=2)


@pytest.fixture(scope="session")
def upsampler_model() -> Model:
    """Enlarges 8x8 to 32x32, told captions and noise."""
    config = UPSAMPLERS["tiny-upsampler"]
    tokenizer = Tokenizer.train(CAPTIONS, vocab_size=300, context=12)
    text = replace(config.text, vocab=tokenizer.n_vocab, context=12)  # type: ignore[type-var]
    return randomised(Model(replace(config, text=text), tokenizer), seed=3)


@pytest.fixture(scope="session")
def upsampler_folder(upsampler_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "upsampler"
    save_model(folder, upsampler_model)
    return folder


@pytest.fixture(scope="session")
def text_folder(text_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "text"
    save_model(folder, text_model)
    return folder


@pytest.fixture(scope="session")
def class_folder(class_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "classes"
    save_model(folder, class_model)
    return folder


@pytest.fixture(scope="session")
def filler(text_model: Model) -> Model:
    """Like text_model, with inpainting planes."""
    config = ModelConfig(tiny_unet(6), text_model.config.text, inpaint=True, process=ProcessConfig(steps=100))
    return randomised(Model(config, text_model.tokenizer), seed=5)


@pytest.fixture(scope="session")
def filler_folder(filler: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "filler"
    save_model(folder, filler)
    return folder
