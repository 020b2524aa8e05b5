"""The flags of a base model's training. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from glide.data.mask_defaults import EVERYTHING
from glide.data.skipped_files import MAX_BROKEN
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.timestep_config import TimestepConfig
from glide.networks.config import ModelConfig
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.inner_head import INNER_WEIGHT
from glide.networks.student_config import StudentConfig
from glide.training.config import TrainConfig
from glide.training.given_settings import decided_by_first_stage
from glide.utils.config_flags import ConfigFlags

MODEL_FLAGS = ConfigFlags(
    ModelConfig,
    "model",
    decided={
        "model.num_classes": "the data",
        "model.class_names": "the data",
        "model.null_class": "--null-captions and the data",
        "text.vocab": "--vocab-size and the captions",
        "text_encoder.kind": "--text-encoder",
        "text_encoder.source": "--text-encoder",
        "text_encoder.revision": "--text-encoder",
        "text_encoder.fingerprint": "--text-encoder",
        "text_encoder.encoder_width": "--text-encoder",
        **dict.fromkeys(
            (f"image_encoder.{name}" for name in ImageEncoderConfig.__dataclass_fields__), "--image-encoder"
        ),
        "model.conditions": "--condition",
        "model.null_condition": "--null-conditions",
        "model.sizes": "--size or --buckets",
        "model.low_res": "the command",
        "model.low_res_noise": "--noise",
        "model.student": "scripts/distill.py",
        "model.augmentation": "--augment",
        **dict.fromkeys(
            (f"student.{name}" for name in StudentConfig.__dataclass_fields__), "scripts/distill.py"
        ),
        **decided_by_first_stage("model"),
    },
)
"""Every setting of a diffusion model."""


FROZEN_FLAGS = (
    "preset",
    "recipe",
    "init",
    "first_stage",
    "inpaint",
    "unconditional",
    "channels",
    "size",
    "buckets",
    "vocab_size",
    "text_encoder",
    "image_encoder",
    "embed_encoder",
    "dropout",
    "self_condition",
    "inner_head",
)
"""Settings of a run that are in its folder by now."""


TrainedPart = Literal["all", "text", "unet", "attention", "inner-head"]


@dataclass(frozen=True)
class TrainBase:
    """Settings of a base model's training."""

    config_flags: ClassVar[ConfigFlags[Any]] = MODEL_FLAGS
    frozen_flags: ClassVar[tuple[str, ...]] = FROZEN_FLAGS

    out: Path
    """Folder of the run: log.jsonl, checkpoints/, samples/, and the model itself, a --model of the sample command."""
    data: str = "shapes"
    """shapes (shapes:one, shapes:one=1,count=2,pair=3), WebDataset shards ("shards/{0000..0999}.tar"), a folder of
    captioned pictures, or one of class folders, idx:FOLDER for files as of MNIST, hf:NAME for a data set of the Hugging
    Face hub; or NAME:ARGUMENT, the data set of another package."""
    preset: str | None = None
    """Sizes of the model by name; by default those of --init, else shapes-64."""
    recipe: str | None = None
    """A published configuration, whose batch, steps, rate and preset stand in for flags that are not given
    (`glide.training.published_recipes`)."""
    config: Path | None = None
    """TOML file with settings of the model, on top of the preset; the flags of the model come before it."""
    show_config: bool = False
    """Print the model's whole configuration as such a file, with the source of each value, and exit."""
    model: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Settings of the model by key, such as "unet.channels", from the flags of `MODEL_FLAGS`."""
    first_stage: str | None = None
    """Learn the latents of this autoencoder in place of pixels (latent diffusion, 2112.10752): a folder of
    train_autoencoder.py, an embedded name, a hub id, or an AutoencoderKL or AutoencoderTiny of diffusers. The sizes of
    the preset are then those of latents."""
    encode_ahead: Path | None = None
    """(first-stage) Folder for the latents of all pictures, which are encoded once, in half precision, before the
    first step; an encoding that was stopped goes on."""
    encode_part: Annotated[str | None, tyro.conf.arg(metavar="I/N")] = None
    """(encode-ahead) Only encode the I-th of N parts of the data, for as many machines; nothing is trained. A training
    with the same flags then finds them there."""
    init: str | None = None
    """Model whose weights to begin with: a folder, an embedded or published name, a published .pt, a hub id."""
    train_part: Annotated[TrainedPart, tyro.conf.arg(name="train", aliases=("--train-part",))] = "all"
    """(init) The weights that learn: all; text, those that encode captions or classes; unet, all others; attention, the
    U-Net's attention to pixels and words; inner-head, the head of --inner-head. The rest stay as they are, and need no
    optimizer state."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    overwrite: bool = False
    """A new run takes the place of a model that is in --out."""
    null_captions: float = 0.2
    """Share of examples that lose their caption or class, for classifier-free guidance."""
    token_captions: float = 0.0
    """Share of captions that reach the network by attention to their tokens alone, so that it learns to attend."""
    condition: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="KIND=FOLDER")
    ] = ()
    """Also condition the model on pictures: KIND=FOLDER, such as map:9=maps or image:1=edges, with one of the same name
    for each picture (in shards the ending of a second file, map:9=.map.png); FOLDER alone is image:3; KIND alone is
    made from each picture itself, as the built-in scenes make map:9. Repeat the flag for several
    (docs/conditions.md)."""
    image_encoder: str | None = None
    """Also condition the model on the embedding of the picture by a frozen image encoder, for variations of pictures
    and for a prior (DALL-E 2, 2204.06125): noisy-clip:NAME, clip:ORG/NAME, dinov2:ORG/NAME, or a folder."""
    null_conditions: float = 0.1
    """(condition, image-encoder) Share of examples that lose these pictures, so that they have a guidance of their own;
    0: they are always needed."""
    inpaint: bool = False
    """Learn to fill in masked regions: four more input planes (masked picture, mask), and random masks."""
    all_unknown: float = EVERYTHING
    """(inpaint) Share of examples of which nothing is known, so that the model also draws from a caption alone."""
    beside: float = 0.0
    """(inpaint, shapes) Share of scenes of one thing that get another one which is known, and which the caption does
    not speak of: captions for inpainting tell of what is to be painted."""
    unconditional: bool = False
    """Learn the pictures alone, without captions or classes; a folder needs none of them then."""
    channels: int | None = None
    """Of the pictures: 1 is grey, 3 RGB, 4 RGBA; by default as many as the preset or --init has."""
    held_out: float = 0.0
    """Share of the pictures of a folder or of shards that are left out of training, and whose loss is measured. (The
    built-in scenes have held-out ones of their own.)"""
    validation_batches: int = 4
    """Batches of held-out pictures whose loss is measured every --sample-every steps (validation.jsonl); 0: none."""
    evaluate_pictures: int = 256
    """(evaluate-every) Pictures that are drawn of held-out captions or classes, or, without held-out pictures, of those
    of the data."""
    judge: str | None = None
    """(evaluate-every) The features in which they are compared with real ones, as --features of the evaluate_images
    command; by default the oracle where the data are the built-in scenes, else efficientnet-lite0."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Size of the pictures of a folder or of shards, as in 96x64, or one number for a square; by default the preset's
    square. Each picture is scaled to cover it, and its middle is taken."""
    buckets: bool = False
    """Learn pictures of a folder or of shards in their own shapes, each at the nearest of some sizes of about the area
    of the model's square, up to 2:1; a batch is of one of them. What they are is said at the start."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random; captions that say "left" are then wrong."""
    augment: float = 0.0
    """Share of pictures that are scaled; as many are stretched, turned by some degrees, and shifted. The network
    receives how as an input, and draws none that are (EDM, 2206.00364, appendix F.2): 0.1 to 0.3 where pictures are
    few."""
    max_broken: float = MAX_BROKEN
    """Share of damaged pictures, and of those without a caption, that are skipped and counted."""
    workers: int | None = None
    """Threads that read and decode pictures; by default 1 beside a network on the CPU, else up to 8."""
    worker_processes: int = 0
    """Over 0: so many processes make the batches in place of threads; faster beside a GPU for the built-in scenes."""
    vocab_size: int = 512
    """Of the tokenizer that is trained on the captions."""
    text_encoder: str | None = None
    """A frozen text encoder of transformers in place of one that is trained: clip:ORG/NAME, t5:ORG/NAME or
    bert:ORG/NAME of the hub, or a folder; its own settings are --text-encoder.NAME (docs/training.md)."""
    embed_encoder: bool = False
    """The model's folder holds the frozen text encoder, too, so that it needs nothing else."""
    encodings: Path | None = None
    """(text-encoder) Folder that keeps the encodings of captions, so that each is made once."""
    dropout: float | None = None
    """In the U-Net; the preset's by default."""
    self_condition: bool = False
    """The network is also shown its own last estimate of the picture (2208.04202): a third more time in training."""
    inner_head: bool = False
    """A second output, of the middle level of the U-Net's decoder (--unet.inner-head N: of the level of that factor),
    for --guidance inner (2512.24176)."""
    inner_weight: float = INNER_WEIGHT
    """(inner-head) Weight of its loss beside that of the model."""
    practice: Annotated[TimestepConfig, tyro.conf.arg(name="")] = field(default_factory=TimestepConfig)
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
    loss: Annotated[LossConfig, tyro.conf.arg(name="")] = field(default_factory=LossConfig)
    """Its `prediction` is the model's."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


STATE_FLAGS = ("train_part", "practice.timesteps", "train.ema", "train.ema_snapshots")
"""Settings that its checkpoints hold the state of."""
