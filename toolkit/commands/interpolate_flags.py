"""Go from caption to caption, or from picture to picture, in steps: a strip of pictures and an animation.

examples:
    python scripts/interpolate.py --prompt "a red circle" --prompt "a blue circle" --out colours.png
    python scripts/interpolate.py --prompt "a star" --prompt "a heart" --mix predictions --frames 15 --out shapes.png
    python scripts/interpolate.py --prompt "a star" --prompt "a ring" --prompt "a circle" --closed --out loop.png
    python scripts/interpolate.py --image a.png --image b.png --out between.png
    python scripts/interpolate.py --image a.png --image b.png --method ddpm --strength 0.6 --out mixed.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from glide.diffusion.samplers.registry import OWN
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.picture_size import parse_size
from glide.utils.ranges import check_numbers
from guidance.options import DEFAULT_OPTIONS
from guidance.registry import check_read
from toolkit.commands import shared_flags as shared
from toolkit.pipelines.settings import SamplingConfig, respacing_of

CHOICES = {
    "method": ("ddim", "ddpm"),
    "mix": ("conditions", "predictions"),
    "frame_spacing": ("arc-length", "uniform"),
}
DDPM_STRENGTH = 0.5  # where DDPM's figure 8 interpolates: step 500 of 1000


@dataclass(frozen=True)
class Interpolate:
    """The flags."""

    out: Annotated[str, arg(metavar="FILE.png")]
    """The strip of all frames side by side; an animation of them, there and back, stands beside it as FILE.gif and,
    in all colours, as FILE-animated.png (APNG)."""
    image: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FILE")] = ()
    """A picture that the walk leads through (its middle square); give the flag two or more times."""
    prompt: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="TEXT")] = ()
    """A caption that the walk leads through: two or more. With pictures: none, one for all, or one for each."""
    frames: int = 9
    """Pictures of the strip, both ends included."""
    closed: bool = False
    """Return to the first caption or picture; the animation goes round without end."""
    frame_spacing: Annotated[str, arg(metavar="{arc-length,uniform}")] = "arc-length"
    """arc-length: neighbours differ by about the same amount, for up to seven times as many drawings. uniform: as many
    frames between all captions, wherever the picture changes."""
    method: Annotated[str, arg(metavar="{ddim,ddpm}")] = "ddim"
    """(pictures) ddim: between the noise that either picture is drawn from, which gives both back at the ends. ddpm:
    both are noised halfway with the same noise, mixed and denoised, as in the DDPM paper."""
    strength: Annotated[float | None, arg(metavar="SHARE")] = None
    """(pictures) Share of the way to noise, above 0 and at most 1. By default 1 for ddim, 0.5 for ddpm."""
    iterations: int = 8
    """(ddim) Network calls for each step towards noise: more reproduce the pictures more exactly."""
    mix: Annotated[str, arg(metavar="{conditions,predictions}")] = "conditions"
    """(captions) Mix the conditions that the network receives, or its predictions for either caption."""
    model: shared.ModelName = "shapes"
    revision: shared.Revision = None
    vocab: shared.Vocab = None
    overwrite: bool = False
    """Replace files of the same name."""
    guidance: shared.GuidanceNames = ()
    scale: shared.Scale = None
    guiding: shared.GuidanceOptions = DEFAULT_OPTIONS
    steps: Annotated[int | None, arg(metavar="INT")] = None
    """Sampling steps. By default 100 for pictures and ddim, else as in the sample command."""
    spacing: shared.Spacing = None
    sampler: Annotated[str, arg(metavar="NAME")] = OWN
    """(captions, ddpm) Sampler of the frames, as in the sample command."""
    size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None
    """Width and height of the frames, as in 96x64. By default the model's own."""
    seed: int = 0
    """Seed of the noise, which is the same for all frames."""
    call_size: int | None = None
    """Pictures in one network call. By default as many as there are frames, up to 8 on a CPU and 32 on a GPU."""
    device: shared.Device = "auto"
    dtype: DType = AUTO
    """Type that the network computes in; inversion needs float32."""

    def check(self) -> None:
        """InputError for flags out of their range, or that exclude each other."""
        check_numbers(self)
        if self.size is not None:
            parse_size(self.size)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"got --{name.replace('_', '-')} {getattr(self, name)!r}, expected {' or '.join(choices)}: choose "
                    "one of these"
                )
        if len(self.image) == 1:
            raise InputError("got 1 pictures, expected two or more to go between: give --image twice")
        if self.image and len(self.prompt) not in (0, 1, len(self.image)):
            raise InputError(
                f"got {len(self.prompt)} captions for {len(self.image)} pictures, expected none, one for all, or one "
                "for each: leave some out"
            )
        if not self.image and len(self.prompt) < 2:
            raise InputError(
                f"got {len(self.prompt)} captions and no pictures, expected two or more of either: give --prompt "
                "twice, or --image twice"
            )
        if self.frames < len(self.captions):
            raise InputError(
                f"got --frames {self.frames} for a walk through {len(self.captions)}, expected at least one for each: "
                "give more frames"
            )
        if self.strength is not None and not self.image:
            raise InputError(
                f"got --strength {self.strength:g} for captions, expected pictures: leave it out"
            )

    @property
    def inverts(self) -> bool:
        """True where pictures are inverted to the noise that they are drawn from."""
        return bool(self.image) and self.method == "ddim"

    def settings(self, has_null: bool) -> SamplingConfig:
        """The sampling settings. has_null: the model knows classifier-free guidance. InputError for bad values."""
        steps = 100 if self.steps is None and self.inverts else self.steps
        strength = self.strength
        if strength is None:
            strength = DDPM_STRENGTH if self.image and self.method == "ddpm" else 1.0
        # guidance pulls a picture away from what it was inverted from: only where it is asked for
        conditioned = bool(self.prompt) and has_null and not self.inverts
        usual = "cfg" if conditioned or self.guiding.negative is not None else "none"
        settings = SamplingConfig(
            "ddim" if self.inverts else self.sampler,  # the way back has to be the way there
            respacing_of(steps),
            0.0,
            self.guidance or usual,
            self.scale,
            self.guiding,
            strength=strength,
            spacing=self.spacing,
        )
        check_read(settings.specs, self.guiding.given())
        return settings

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions of all stops of the walk: of the pictures, where there are some."""
        return self.prompt if len(self.prompt) > 1 else (*self.prompt, "")[:1] * len(self.image)

    @property
    def legs(self) -> int:
        """Ways from one stop to the next."""
        return len(self.captions) - (not self.closed)

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """The strip, the GIF and the APNG."""
        out = Path(self.out)
        # not .apng, which most viewers do not know; one that knows PNG alone shows the first frame
        return out, out.with_suffix(".gif"), out.with_name(f"{out.stem}-animated.png")
