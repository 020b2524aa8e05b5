"""Installation: `pip install .`, or `pip install -e .[dev]` to work on the code."""

import re
import sys
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).resolve().parent


def version() -> str:
    """The version from glide/version.py, read as text: importing the package would need it to be installed."""
    match = re.search(
        r'^__version__ = "([^"]+)"', (HERE / "glide/version.py").read_text("utf-8"), re.MULTILINE
    )
    assert match is not None, "glide/version.py holds no __version__"
    return match.group(1)


EXTRAS = {
    # ruff's formatting changes between minor versions
    "dev": [
        "pytest>=8",
        "ruff>=0.17,<0.18",
        "mypy>=1.19",
        "matplotlib>=3.8",
        "webdataset>=1.0.2",
        "fonttools>=4.40",
    ],
    "test": [
        "diffusers>=0.30"
    ],  # a second implementation of every solver; its test is left out where it is not there
    "hub": ["huggingface_hub>=0.30"],
    "plot": ["matplotlib>=3.8"],
    "shards": ["webdataset>=1.0.2"],  # writes shards, and expands {0000..0999}
    "emoji": ["webdataset>=1.0.2", "fonttools>=4.40"],  # examples/emoji: glyphs of several code points
    # where a training's numbers may go besides its log (--track)
    "tensorboard": ["tensorboard>=2.16"],
    "wandb": ["wandb>=0.17"],
    "trackio": ["trackio>=0.2"],
    "clip": ["huggingface_hub>=0.30"],  # fetches the CLIP that guides; its code comes with transformers
}

# Faster on a CPU (glide/fused.py); left out where there is no compiler. Not linked with an OpenMP: PyTorch brings one.
FUSED = Extension(
    "glide._fused",
    ["glide/fused_attention.c", "glide/fused_groups.c", "glide/fused_pixels.c"],
    depends=["glide/fused.h"],
    extra_compile_args=["-O3", "-ffast-math", "-fopenmp"],
    optional=True,
)

setup(
    name="glide-toolkit",
    version=version(),
    description="Guided diffusion in PyTorch: text- and class-conditional models, their training and their guidance",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    author="The Glide Toolkit authors",
    license="MIT",
    license_files=["LICENSE"],
    # by name, so that tests and scripts are not installed
    packages=["glide", "guidance", "upsampler"],
    package_data={
        "glide": ["models/*/*", "py.typed"],
        "guidance": ["models/*/*", "py.typed"],
        "upsampler": ["models/*/*", "py.typed"],
    },
    ext_modules=[FUSED] if sys.platform == "linux" else [],
    python_requires=">=3.10",
    install_requires=[  # constraints-lowest.txt holds the lowest of each, and says how the tests end with them
        "torch>=2.7",
        "transformers>=4.46",
        "tokenizers>=0.20",
        "safetensors>=0.4.3",
        "numpy>=1.26",
        "Pillow>=10.1",
        "tqdm>=4.66",
        "blobfile>=3.0",
        "tyro>=1.0",
        "accelerate>=1.0",
    ],
    extras_require={**EXTRAS, "all": sorted({name for names in EXTRAS.values() for name in names})},
    classifiers=[
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
