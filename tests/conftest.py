"""What several tests need: one thread, one type, and tiny models with random weights, in memory and as folders."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glide.checkpoints.load import save_model
from glide.networks.config import ModelConfig, ProcessConfig, TextConfig
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.utils import dtype as dtype
from support.models import CAPTIONS, CLASSES, randomised, tiny_unet
from upsampler.presets import UPSAMPLERS

# tiny tensors: threads only wait for each other, and for whoever else runs here; more are for who asks for them
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

# a compiler's cache of its own: kernels that were compiled there for another processor, or half, abort the process
_compiled = tempfile.TemporaryDirectory(prefix="glide-inductor-", ignore_cleanup_errors=True)
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", _compiled.name)


LONGEST = (
    "training/test_distributed.py",
    "pipelines/test_default_strengths.py",
    "pipelines/test_compile.py",
    "docs/test_tutorial.py",
    "web/test_page.py",
    "toolkit/test_fake_device.py",
    "training/test_fit.py",
    "training/test_survival.py",
    "commands/test_model_flags.py",
    "clip/test_train.py",
    "training/test_run_folder.py",
)
"""Files that take longest, in the order in which they begin where several run at a time."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long files where pytest-xdist runs several, so that none is waited for at the end."""
    if hasattr(config, "workerinput"):
        ranks = {
            item: next((i for i, name in enumerate(LONGEST) if item.path.match(name)), 99) for item in items
        }
        items.sort(key=lambda item: ranks[item])


@pytest.fixture(autouse=True, scope="session")
def auto_is_float32() -> Iterator[None]:
    """`auto` is float32 in this process, lest a test depend on the processor; tests/glide/utils/test_dtype.py asks the
    real one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dtype, "multiplies_fast", lambda device, of: of == torch.float32)
        yield


@pytest.fixture
def threads() -> Iterator[None]:
    """PyTorch's number of threads, put back after a test that sets it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def work_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder, which the test runs in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
