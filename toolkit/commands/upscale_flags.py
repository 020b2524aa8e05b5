"""The flags of the sample command's second stage, and their values in a recipe."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import UseAppendAction, arg

from glide.diffusion.samplers.registry import OWN
from glide.utils.errors import InputError
from glide.utils.picture_size import parse_size, recorded_size, size_text
from glide.utils.ranges import ETA, NOISE, PIXELS, TEMPERATURE
from guidance.options import Options
from guidance.registry import read_by
from guidance.spec import GuidanceSpec
from toolkit.pipelines.recipe import read_guidance
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StageArgs:
    """The flags of a cascade, which draws small pictures and enlarges them."""

    size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None
    """Width and height of the pictures, as in 96x64, or one number for a square. By default the model's own; another
    size near it the model draws itself, and an upsampler makes several times that, 256 of 64 or 384x256 of 96x64; the
    small picture is kept beside the large one."""
    upsampler: Annotated[str | None, arg(metavar="NAME")] = None
    """(size) The model that enlarges, named as --model. By default the embedded one that belongs to the model."""
    upsampler_vocab: Annotated[str | None, arg(metavar="NAME")] = None
    """(size) As --vocab, of the upsampler."""
    upsample_steps: Annotated[int | None, arg(metavar="INT")] = None
    """(size) Steps of the upsampler. By default 8."""
    upsample_respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """(size) Instead of --upsample-steps, as --respacing: "fast27", "ddim50", "10,10,3,2,2"."""
    upsample_spacing: Annotated[str | None, arg(metavar="NAME")] = None
    """(size) As --spacing, of the upsampler."""
    upsample_sampler: Annotated[str, arg(metavar="NAME")] = OWN
    """(size) As --sampler, of the upsampler."""
    upsample_eta: float = 0.0
    """(size) Noise that DDIM adds at every step, 0 to 1."""
    upsample_guidance: Annotated[
        tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][~SHAPE][@FROM-TO]")
    ] = ()
    """(size) As --guidance, of the upsampler; by default none. Options of single guidances are those of both stages."""
    upsample_temp: float = 1.0
    """(size) Multiplies the noise that the upsampler starts from: 0.997 is a little calmer than 1."""
    upsample_noise: float = 0.0
    """(size) Noise that is added to the small picture before it is enlarged, 0 to below 1: hides faults of it from an
    upsampler that was trained with noise."""

    @property
    def specs(self) -> tuple[GuidanceSpec, ...]:
        return tuple(GuidanceSpec.parse(text) for text in self.upsample_guidance)

    def check(self) -> None:
        """InputError for flags that exclude each other, or that say how to enlarge where nothing is."""
        given = [f.name for f in fields(StageArgs) if getattr(self, f.name) != f.default and f.name != "size"]
        if self.size is not None:
            parse_size(self.size)
        if self.size is None and given:
            raise InputError(
                f"got --{given[0].replace('_', '-')} without --size, expected both: add --size 256 or the like"
            )
        if self.upsample_steps is not None and self.upsample_respacing is not None:
            raise InputError(
                "got --upsample-steps and --upsample-respacing, expected one of them: leave one out"
            )

    def settings(self, usual: SamplingConfig, options: Options) -> SamplingConfig:
        """The settings of the upsampler. usual: its defaults. options: of the guidances of both stages."""
        spec = self.upsample_respacing or usual.respacing
        if self.upsample_steps is not None:
            spec = spec_of_steps(self.upsample_steps)
        return SamplingConfig(
            self.upsample_sampler,
            spec,
            self.upsample_eta,
            self.upsample_guidance or usual.guidance,
            None,
            options.of(read_by(self.specs)),
            self.upsample_temp,
            spacing=self.upsample_spacing,
        )


ONE_STAGE = StageArgs()


def stage_of(recipe: Recorded) -> dict[str, Any]:
    """The fields of StageArgs with which the picture was drawn and enlarged; its size alone where it was not enlarged.

    InputError for what no version wrote.
    """
    recorded = {"size": _size_in(recipe)} if "size" in recipe else {}
    if "upsampler" not in recipe:
        return recorded
    stage = recipe.table("upsampler")
    texts, scale, _ = read_guidance(stage)
    guidance = tuple(text if scale is None else str(_with_scale(text, scale)) for text in texts)
    return {
        **recorded,
        "upsampler": stage.network(),
        "upsampler_vocab": stage.text("vocab", None),
        "upsample_respacing": stage.text("respacing"),
        "upsample_spacing": stage.text("spacing", "uniform"),
        "upsample_sampler": stage.text("sampler"),
        "upsample_eta": stage.real("eta", ETA),
        "upsample_guidance": guidance,
        "upsample_temp": stage.real("temperature", TEMPERATURE, 1.0),
        "upsample_noise": stage.real("noise", NOISE),
    }


def _with_scale(text: str, scale: float) -> GuidanceSpec:
    return replace(GuidanceSpec.parse(text), scale=scale)


def _size_in(recipe: Recorded) -> str:
    """A recorded size as a flag: the side of a square, or WIDTHxHEIGHT."""
    if not isinstance(recipe.values["size"], str):
        return str(recipe.whole("size", PIXELS))
    return size_text(parse_size(recipe.text("size"), f"size in the recipe of {recipe.file}"))


def size_of(pixels: Tensor) -> int | str:
    """The size of pictures [N,H,W,C] as a recipe holds it."""
    return recorded_size((pixels.shape[1], pixels.shape[2]))
