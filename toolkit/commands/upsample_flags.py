"""Enlarge pictures with an upsampler: four times, or whatever it was trained for.

examples:
    python scripts/upsample.py drawing.png --prompt "a red ring on a white background" --out outputs/large.png
    python scripts/upsample.py drawings/ --out outputs/enlarged --overwrite
    python scripts/upsample.py drawing.png --steps 10 --temp 0.997 --noise 0.1
    python scripts/upsample.py drawings/ --part 1/2 --out outputs/parts

Pictures larger than those the model was trained with are drawn in overlapping tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from glide.diffusion.samplers.registry import OWN
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.parts import Part
from glide.utils.ranges import check_numbers
from guidance.options import DEFAULT_OPTIONS
from guidance.registry import check_read
from guidance.spec import GuidanceSpec
from toolkit.commands import shared_flags as shared
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps


@dataclass(frozen=True)
class Upsample:
    """The flags."""

    picture: Annotated[Positional[str], arg(metavar="PICTURE")]
    """A picture file of any size, or a folder of them."""
    prompt: Annotated[str | None, arg(metavar="TEXT")] = None
    """Caption of the pictures. Without it, in a folder: the text of x.txt beside x.png, else none."""
    label: Annotated[str | None, arg(metavar="CLASS")] = None
    """For class-conditional upsamplers: the class, by name or number."""
    model: Annotated[str, arg(metavar="NAME")] = "shapes"
    """The upsampler: a model folder, an embedded or published upsampler, an OpenAI .pt file, or a hub id (org/name)."""
    revision: shared.Revision = None
    vocab: shared.Vocab = None
    out: Annotated[str, arg(metavar="PATH")] = "outputs/enlarged"
    """A folder, which gets a PNG of the same name, or, for one picture, a file that ends in .png."""
    part: Annotated[str | None, arg(metavar="I/N")] = None
    """Enlarge the I-th of N parts of a folder's pictures. Those that are there already are kept, so the same command
    again goes on, on any machine that sees the folders."""
    overwrite: bool = False
    """Replace results of earlier runs; never the pictures themselves."""
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Sampling steps. By default 8."""
    respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Instead of --steps: "fast27", "100", "ddim50", or counts for equal sections ("10,10,3,2,2")."""
    spacing: shared.Spacing = None
    sampler: shared.SamplerName = OWN
    eta: shared.Eta = 0.0
    guidance: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][~SHAPE][@FROM-TO]")] = ()
    """As in the sample command; by default none."""
    guiding: shared.GuidanceOptions = DEFAULT_OPTIONS
    temp: float = 1.0
    """Multiplies the noise that a picture starts from: 0.997 is a little calmer than 1."""
    noise: float = 0.0
    """Noise that is added to a picture before it is enlarged, 0 to below 1: hides its faults, if the upsampler was
    trained with noise."""
    seed: int = 0
    """Picture i of a folder, counted from 0, has the seed SEED + i."""
    device: shared.Device = "auto"
    dtype: DType = AUTO

    def check(self) -> None:
        """InputError for flags out of their range, or that exclude each other."""
        if self.steps is not None and self.respacing is not None:
            raise InputError("got --steps and --respacing, expected one of them: leave one out")
        check_numbers(self)
        if self.part is not None:
            Part.parse(self.part)
            if self.overwrite:
                raise InputError("got --part and --overwrite, of which one keeps pictures: leave one out")
        check_read([GuidanceSpec.parse(text) for text in self.guidance], self.guiding.given())

    def settings(self, usual: SamplingConfig) -> SamplingConfig:
        """The sampling settings. usual: the upsampler's, for all that is not given."""
        spec = self.respacing or usual.respacing
        if self.steps is not None:
            spec = spec_of_steps(self.steps)
        guidance = self.guidance or usual.guidance
        return SamplingConfig(
            self.sampler, spec, self.eta, guidance, None, self.guiding, self.temp, spacing=self.spacing
        )
