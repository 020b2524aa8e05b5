"""Training recipes of the published configurations: one table, from which `--recipe` sets flags that are not given.

The networks and noise schedules are in the tables of presets; here are batch, steps, learning rate and averages.
`source` cites the numbers, and names those that no paper gives.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from glide.training.config import OptimConfig, TrainConfig
from glide.utils.cli import parse
from glide.utils.config_flags import ConfigFlags
from glide.utils.errors import InputError

Args = TypeVar("Args")


@dataclass(frozen=True)
class Recipe:
    """The training recipe of one published model. script: the training script that it is for."""

    script: str
    preset: str
    source: str
    train: TrainConfig
    more: Mapping[str, Any] = field(default_factory=dict)
    """Other flags of the script."""


def _train(
    batch: int,
    steps: int,
    lr: float,
    *,
    ema: float = 0.9999,
    dtype: str = "float16",
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.999),
    warmup: int = 0,
    cooldown: float = 0.0,
    clip: float = 0.0,
) -> TrainConfig:
    optim = OptimConfig(
        lr=lr, weight_decay=weight_decay, betas=betas, warmup=warmup, cooldown=cooldown, clip=clip
    )
    often = max(1, min(10_000, steps // 50))
    return TrainConfig(
        steps, batch, optim=optim, ema=(ema,), dtype=dtype, save_every=often, sample_every=often
    )


_ADM = "2105.05233, appendix: hyperparameters of diffusion models"
_ADM_UP = "2105.05233, appendix: hyperparameters of upsampling models"
_IMAGEN = (
    "2205.11487, section 4.1 and appendix F, with AdamW for Adafactor (Adam in the upsamplers); a tenth of captions is "
    "dropped"
)
_ADM_CLASSIFIER = (
    "2105.05233, appendix: hyperparameters of classifiers; it speaks of no average, so there is none"
)
_GLIDE = "2112.10741, section 4; it gives neither rate nor average: ADM's"

RECIPES: dict[str, Recipe] = {
    "ddpm-cifar10": Recipe(
        "train_base",
        "ddpm-32",
        "2006.11239, appendix B",
        _train(128, 800_000, 2e-4, dtype="float32", warmup=5000, clip=1.0),
        {"flip": True, "unconditional": True, "null_captions": 0.0},
    ),
    "fashion-mnist": Recipe(
        "train_base",
        "small-32",
        "no paper's: DDPM's for CIFAR-10 with half the width, a quarter of the batches and shorter averages",
        _train(128, 200_000, 2e-4, ema=0.9995, dtype="float32", warmup=1000, clip=1.0),
    ),
    "adm-64": Recipe("train_base", "adm-64", _ADM, _train(2048, 540_000, 3e-4), {"null_captions": 0.0}),
    "adm-128": Recipe("train_base", "adm-128", _ADM, _train(256, 4_360_000, 1e-4), {"null_captions": 0.0}),
    "adm-256": Recipe("train_base", "adm-256", _ADM, _train(256, 1_980_000, 1e-4), {"null_captions": 0.0}),
    "adm-512": Recipe("train_base", "adm-512", _ADM, _train(256, 1_940_000, 1e-4), {"null_captions": 0.0}),
    "glide-base": Recipe(
        "train_base", "glide-base", _GLIDE, _train(2048, 2_500_000, 1e-4), {"null_captions": 0.0}
    ),
    "glide-null-captions": Recipe(
        "train_base",
        "glide-base",
        "2112.10741, section 2.3: 20% of the captions are dropped; it gives no steps: a tenth of the base model's",
        _train(2048, 250_000, 1e-4),
        {"null_captions": 0.2},
    ),
    "glide-inpaint": Recipe(
        "train_base",
        "glide-base",
        "2112.10741, section 2.4: a fine-tune of the base model; it gives no numbers: a tenth of the base's steps",
        _train(2048, 250_000, 1e-4),
        {"null_captions": 0.2, "inpaint": True},
    ),
    "glide-upsampler": Recipe(
        "train_upsampler", "glide-upsampler", _GLIDE, _train(512, 1_600_000, 1e-4), {"null_captions": 0.0}
    ),
    "imagen-base": Recipe(
        "train_base",
        "imagen-base",
        _IMAGEN,
        _train(2048, 2_500_000, 1e-4, warmup=10_000),
        {"null_captions": 0.1},
    ),
    "imagen-upsampler": Recipe(
        "train_upsampler",
        "imagen-upsampler",
        f"{_IMAGEN}; its Efficient U-Net is ADM's here",
        _train(2048, 2_500_000, 1e-4, warmup=10_000),
        {"null_captions": 0.1},
    ),
    "adm-64-256": Recipe(
        "train_upsampler", "adm-64-256", _ADM_UP, _train(256, 500_000, 1e-4), {"null_captions": 0.0}
    ),
    "adm-128-512": Recipe(
        "train_upsampler", "adm-128-512", _ADM_UP, _train(256, 1_050_000, 1e-4), {"null_captions": 0.0}
    ),
    "adm-64-classifier": Recipe(
        "train_classifier",
        "adm-64",
        _ADM_CLASSIFIER,
        _train(1024, 300_000, 6e-4, ema=0.0, weight_decay=0.2, cooldown=1.0),
    ),
    "adm-128-classifier": Recipe(
        "train_classifier",
        "adm-128",
        _ADM_CLASSIFIER,
        _train(256, 300_000, 3e-4, ema=0.0, weight_decay=0.05, cooldown=1.0),
    ),
    "adm-256-classifier": Recipe(
        "train_classifier",
        "adm-256",
        _ADM_CLASSIFIER,
        _train(256, 500_000, 3e-4, ema=0.0, weight_decay=0.05, cooldown=1.0),
    ),
    "adm-512-classifier": Recipe(
        "train_classifier",
        "adm-512",
        _ADM_CLASSIFIER,
        _train(256, 500_000, 3e-4, ema=0.0, weight_decay=0.05, cooldown=1.0),
    ),
    "glide-clip": Recipe(
        "train_clip",
        "glide",
        "2112.10741, section 2.4 gives no numbers: CLIP's ViT-L/14, 2103.00020, appendix F, 32 epochs of 400 million "
        "pairs (its rate falls by a cosine, here on a line)",
        _train(32_768, 390_000, 4e-4, weight_decay=0.2, betas=(0.9, 0.98), warmup=2000, cooldown=0.99),
    ),
}
"""By name."""


def recipe_settings(args: type[Args], name: str, script: str, out: Any) -> Args:
    """The flags of a script as a recipe has them. InputError for a name that is none of that script's."""
    known = [key for key, recipe in RECIPES.items() if recipe.script == script]
    if name not in known:
        raise InputError(f"--recipe {name!r}: expected one of {', '.join(known)}.")
    recipe = RECIPES[name]
    plain: Any = args(out=out)  # type: ignore[call-arg]
    return replace(plain, recipe=name, preset=recipe.preset, train=recipe.train, **recipe.more)


def parse_with_recipe(
    args: type[Args], script: str, description: str | None, argv: Sequence[str] | None = None
) -> Args:
    """As `glide.utils.cli.parse`; with `--recipe NAME` among the flags, its numbers stand in for those that are not
    given. The flags of the model (`config_flags` of `args`) become its `model`, and `--show-config` needs no `--out`.
    """
    flags: ConfigFlags[Any] = args.config_flags  # type: ignore[attr-defined]
    given, model = flags.take(list(sys.argv[1:] if argv is None else argv))
    out: Any = Path() if "--show-config" in given or "--show_config" in given else tyro.MISSING
    default = None if out is tyro.MISSING else args(out=out)  # type: ignore[call-arg]
    for i, flag in enumerate(given):
        name = given[i + 1] if flag == "--recipe" and i + 1 < len(given) else flag.partition("--recipe=")[2]
        if name:
            default = recipe_settings(args, name, script, out)
    parsed: Any = parse(args, f"{description or ''}\n\n{flags.usage()}", given, default)
    return replace(parsed, model=model)


def table() -> str:
    """The recipes as a table in Markdown."""
    rows = ["| recipe | script | preset | batch | steps | rate | weight decay | from |", "|" + "---|" * 8]
    for name, recipe in RECIPES.items():
        train = recipe.train
        rows.append(
            f"| `{name}` | {recipe.script} | `{recipe.preset}` | {train.batch_size} | {train.steps:,} | "
            f"{train.optim.lr:g} | {train.optim.weight_decay:g} | {recipe.source} |"
        )
    return "\n".join(rows)
