"""Inpaint a region of a picture by a caption. Everything outside the mask stays as it is, bit for bit.

In a mask file WHITE is painted and black stays. Without a mask the transparent part of the picture is painted.

examples:
    python scripts/inpaint.py --image photo.png --mask mask.png --prompt "a red ring" --out result.png
    python scripts/inpaint.py --image photo.png --box 0,0,32,32 --prompt "a green star in the top left corner" \\
        --num-samples 4 --out choices.png
    python scripts/inpaint.py --image cutout.png --method repaint --steps 25 --resamplings 5 --out filled.png
    python scripts/inpaint.py --image photo.png --mask mask.png --invert-mask --method replace --out other.png
    python scripts/inpaint.py --like result.png --trust-recipe --seed 1 --out another.png
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import arg

from glide.diffusion.samplers.registry import (
    OWN,
)
from glide.utils import cli as cli
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.ranges import COUNT, ETA, FROM_ZERO, SEED, check_numbers, range_of
from guidance.options import DEFAULT_OPTIONS
from guidance.registry import SHARED_OPTIONS, check_read, read_by
from guidance.spec import GuidanceSpec
from toolkit.commands import shared_flags as shared
from toolkit.pipelines.recipe import OLD_CALL_SIZE, read_guidance
from toolkit.pipelines.recipe_reader import Recorded, check_trust
from toolkit.pipelines.settings import DEFAULT_CONTEXT, SamplingConfig, respacing_of


@dataclass(frozen=True)
class Inpaint:
    """The flags."""

    out: Annotated[str, arg(metavar="FILE.png")]
    """The result, in the picture's own size: outside the mask every pixel is the picture's, bit for bit."""
    image: Annotated[str, arg(metavar="FILE")] = ""
    """The picture, of any size and shape. It is only read, never written."""
    prompt: Annotated[str, arg(metavar="TEXT")] = ""
    """Caption of the whole picture, above all of the new part. Without it: whatever fits."""
    mask: Annotated[str | None, arg(metavar="FILE")] = None
    """A picture of the same size: WHITE is painted, black stays. Without --mask and --box the transparent part of the
    picture is painted."""
    box: Annotated[str | None, arg(metavar="X0,Y0,X1,Y1")] = None
    """Instead of a mask: a box in pixels, from left and top to right and bottom."""
    invert_mask: bool = False
    """The reverse: white stays and black is painted; or all but the box."""
    label: Annotated[str | None, arg(metavar="CLASS")] = None
    """For class-conditional models: the class, by name or number."""
    model: shared.ModelName = "shapes"
    upsampler: Annotated[str | None, arg(metavar="NAME")] = None
    """A second model that enlarges the painted part, named the same way; shapes is the embedded one. Without it the
    painted part is scaled."""
    upsample_respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Steps of the upsampler, as --respacing. By default 8."""
    upsampler_vocab: Annotated[str | None, arg(metavar="NAME")] = None
    """As --vocab, of the upsampler."""
    revision: shared.Revision = None
    vocab: shared.Vocab = None
    method: Annotated[str | None, arg(metavar="{model,repaint,replace}")] = None
    """model: a model trained to inpaint, which sees the known pixels (its default). repaint: any model, with steps back
    and forth until the new part fits the old (RePaint; the default of all other models; slow). replace: any model,
    with the known pixels put back at each step (quick; new and old may not fit)."""
    context: float = DEFAULT_CONTEXT
    """Side of the square that the model sees, in lengths of the masked part. Less gives more detail, more (inf: all
    that fits into a square) lets the caption describe the whole picture."""
    feather: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Width of the blended border, inside the mask. By default one pixel of the model's."""
    jump: Annotated[int | None, arg(metavar="INT")] = None
    """(repaint) Steps of one jump back. By default 5."""
    resamplings: Annotated[int | None, arg(metavar="INT")] = None
    """(repaint) Times that each stretch of steps is painted, from 2. By default 10: almost ten times as long."""
    num_samples: int = 1
    """Number of results: out.png shows all of them side by side, out-1.png, out-2.png, ... each alone."""
    overwrite: bool = False
    """Replace files of the same name; never the picture or the mask."""
    guidance: shared.GuidanceNames = ()
    scale: shared.Scale = None
    guiding: shared.GuidanceOptions = DEFAULT_OPTIONS
    steps: shared.Steps = None
    respacing: shared.Respacing = None
    spacing: shared.Spacing = None
    sampler: shared.SamplerName = OWN
    eta: shared.Eta = 0.0
    seed: int = 0
    """Result i of the run, counted from 0, has the seed SEED + i."""
    call_size: int | None = None
    """Pictures in one network call. By default as many as the run has, up to 8 on a CPU and 32 on a GPU."""
    like: Annotated[str | None, arg(metavar="FILE.png")] = None
    """Paint a result of an earlier run again, bit for bit on the same machine; further flags change it."""
    trust_recipe: bool = False
    """(like) Also use the picture, the mask and the networks that the recipe names. Without it they are listed, and
    used only where they are given as flags too."""
    device: shared.Device = "auto"
    dtype: DType = AUTO

    def check(self) -> None:
        """InputError for flags out of their range, or that exclude each other."""
        if not self.image:
            raise InputError("got no picture to paint in, expected one: give --image FILE")
        check_numbers(self)
        if self.steps is not None and self.respacing is not None:
            raise InputError("got --steps and --respacing, expected one of them: leave one out")
        if self.mask is not None and self.box is not None:
            raise InputError("got --mask and --box, expected one of them: leave one out")
        if self.upsampler is None and (self.upsample_respacing or self.upsampler_vocab):
            raise InputError(
                "got --upsample-respacing or --upsampler-vocab without an upsampler, expected both: add --upsampler"
            )
        resampled = self.jump is not None or self.resamplings is not None
        if resampled and self.method not in (None, "repaint"):
            raise InputError(
                f"got --jump or --resamplings with --method {self.method}, expected --method repaint: leave them out"
            )

    def settings(self, has_null: bool) -> SamplingConfig:
        """The sampling settings. has_null: the model knows classifier-free guidance. InputError for bad values."""
        spec = self.respacing or respacing_of(self.steps)
        conditioned = bool(self.prompt or self.label is not None)
        usual = "cfg" if (has_null and conditioned) or self.guiding.negative is not None else "none"
        guidance = self.guidance or usual
        settings = SamplingConfig(
            self.sampler, spec, self.eta, guidance, self.scale, self.guiding, spacing=self.spacing
        )
        check_read(settings.specs, self.guiding.given())
        return settings

    @property
    def files(self) -> list[Path]:
        """The files to write: of one result its own; of several one of all, and one of each."""
        out = Path(self.out)
        if self.num_samples == 1:
            return [out]
        return [out, *(out.with_name(f"{out.stem}-{i}{out.suffix}") for i in range(1, self.num_samples + 1))]


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[Inpaint, Mapping[str, Any] | None]:
    """The flags, with those of --like's picture in place of the defaults, and its recipe; as `sample_flags.parse`."""
    given = cli.parse(Inpaint, description, argv)
    if given.like is None:
        given.check()
        return given, None
    from glide.utils.images import read_recipe

    recipe = read_recipe(given.like)
    if recipe.get("made_by") != "inpaint.py":
        raise InputError(
            f"{given.like} was not made by scripts/inpaint.py, expected a result of it: give another PNG"
        )
    args = cli.parse(Inpaint, description, argv, _as_painted(given, Recorded(recipe, given.like)))
    args.check()
    check_trust(args, given)
    return args, recipe


def _as_painted(given: Inpaint, recipe: Recorded) -> Inpaint:
    """The flags by which the picture was painted; a flag given now takes the place of those that it excludes."""
    guidance, scale, options = read_guidance(recipe)
    second, enlarged = recipe.table("upsampler"), "upsampler" in recipe
    mask = recipe.text("mask", None)
    null = recipe.values.get("label") is None
    endless = recipe.values.get("context") == "inf"  # JSON has no infinity
    default = Inpaint(
        out=given.out,
        image=recipe.text("image"),
        prompt=recipe.text("prompt", ""),
        mask=None if mask == "transparency" else mask,
        box=recipe.text("box", None),
        invert_mask=recipe.flag("invert_mask"),
        label=None if null else str(recipe.whole("label", FROM_ZERO)),
        model=recipe.network(),
        upsampler=second.network() if enlarged else None,
        upsample_respacing=second.text("respacing", None),
        upsampler_vocab=second.text("vocab", None),
        vocab=recipe.text("vocab", None),
        method=recipe.text("method"),
        context=math.inf if endless else recipe.real("context", range_of(Inpaint, "context")),
        feather=recipe.whole("feather", range_of(Inpaint, "feather")),
        jump=recipe.whole("jump", range_of(Inpaint, "jump"), None),
        resamplings=recipe.whole("resamplings", range_of(Inpaint, "resamplings"), None),
        num_samples=recipe.whole("num_samples", COUNT, 1),
        guidance=guidance,
        scale=scale,
        guiding=options,
        respacing=recipe.text("respacing"),
        spacing=recipe.text("spacing", "uniform"),
        sampler=recipe.text("sampler"),
        eta=recipe.real("eta", ETA),
        seed=recipe.whole("seed", SEED),
        call_size=recipe.whole("call_size", COUNT, OLD_CALL_SIZE),
        device=recipe.text("device"),
        dtype=recipe.text("dtype"),
        like=given.like,
    )
    if given.steps is not None or given.respacing is not None:
        default = replace(default, respacing=None, spacing=None)
    if given.mask is not None or given.box is not None:
        default = replace(default, mask=None, box=None)
    if given.method is not None:
        default = replace(default, jump=None, resamplings=None)
    if given.guidance:  # of the options only those that still belong to one
        read = read_by([GuidanceSpec.parse(text) for text in given.guidance]) | SHARED_OPTIONS
        default = replace(default, guidance=(), scale=None, guiding=options.of(read))
    return default
