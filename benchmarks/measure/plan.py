"""The flags of benchmarks/engine.py. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glide.utils.errors import InputError

Case = Literal["base", "upsampler", "embedded", "cascade", "train", "picture", "startup"]
Beside = Literal["original", "glide_text2im", "guided_diffusion", "diffusers"]
DType = Literal["float32", "bfloat16", "float16"]
Asked = Literal["auto", "float32", "bfloat16", "float16"]

CASES: tuple[Case, ...] = ("base", "upsampler", "embedded", "cascade", "train", "picture", "startup")
BESIDE: tuple[Beside, ...] = ("original", "glide_text2im", "guided_diffusion", "diffusers")


@dataclass(frozen=True)
class Plan:
    """The flags."""

    cases: tuple[Case, ...] = CASES
    """base, upsampler: a step of the full-size networks of GLIDE, with random weights; base with classifier-free
    guidance, which is two evaluations. embedded: a step of the embedded model. cascade: an embedded model and its
    upsampler, from a caption to the large picture. train: a training step of the embedded model, and how long the
    default one takes beside one in float32. picture: one picture of the full-size networks. startup: scripts/sample.py
    --help and import glide in fresh processes."""
    beside: tuple[Beside, ...] = BESIDE
    """(base, upsampler) Who does the same work beside: the original's way with the networks of this project, and other
    packages where they are installed. Nobody: --beside and nothing after it."""
    dtype: tuple[Asked, ...] = ("auto", "float32")
    """Types that the networks run in, one after the other. auto: what is fast on the device."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ...; by default a GPU where there is one."""
    threads: int | None = None
    """Threads of the CPU; by default PyTorch's number."""
    batch_sizes: tuple[int, ...] = (1,)
    """(base, upsampler, embedded) Pictures in one network call. For a GPU: 1 16 64."""
    train_batch: int = 64
    """(train) Pictures in a step."""
    repeats: int = 5
    """Measured steps or runs, of which the median counts; one or two more come first to warm up."""
    picture_repeats: int = 1
    """(picture) The same of the full-size picture, which can take minutes; two steps of it come first to warm up."""
    base_steps: str | None = None
    """(pictures) Steps of the base models, or a respacing; by default as scripts/sample.py takes them."""
    upsampler_steps: str | None = None
    """(pictures) The same of the upsamplers."""
    sampler: str | None = None
    """(pictures) By default that of scripts/sample.py."""
    model: str = "shapes"
    """(embedded, cascade, train) An embedded model, or the folder of one."""
    upsampler: str = "shapes"
    """(cascade) The same of an upsampler. Where there is none, the case is skipped."""
    size: Literal["full", "tiny"] = "full"
    """Of the networks with random weights. tiny: a look at the program itself; its figures mean nothing."""
    stored: DType = "float32"
    """Type of the weights in the files that the full-size networks are loaded from."""
    compile: bool = False
    """Run the networks of this project through torch.compile."""
    profile: bool = False
    """Also print where the time goes, layer by layer: of base, upsampler, embedded and train, as far as they are among
    the cases, with the first batch size."""
    seed: int = 0
    """Of random weights and inputs."""
    out: Path | None = None
    """Markdown file for the results, benchmarks/RESULTS.md for those that the project shows; by default they are
    printed alone."""
    overwrite: bool = False
    """Replace a file --out that is there already."""

    def check(self) -> None:
        """InputError for what cannot be measured."""
        for name in ("cases", "dtype", "batch_sizes"):
            if not getattr(self, name):
                raise InputError(
                    f"got no {name.replace('_', ' ')}, expected at least one: leave the flag out"
                )
        counts = {
            "repeats": self.repeats,
            "picture-repeats": self.picture_repeats,
            "train-batch": self.train_batch,
        }
        for name, count in [*counts.items(), *(("batch-sizes", size) for size in self.batch_sizes)]:
            if count < 1:
                raise InputError(f"got --{name} {count}, expected at least 1: leave it out for the usual")
        if self.threads is not None and self.threads < 1:
            raise InputError(f"got --threads {self.threads}, expected at least 1: leave it out for the usual")
