"""Draw pictures with a text- or class-conditional model.

examples:
    python scripts/sample.py --guidance cfg --scale 3
    python scripts/sample.py --prompt "a large red circle to the left of a small blue square" --num-samples 4 --grid
    python scripts/sample.py --prompt "three green stars" --sampler ddpm --respacing 100 --seed 7 --gif
    python scripts/sample.py --prompt "a red ring" --sampler dpmpp-2m --spacing log-snr --steps 20
    python scripts/sample.py --guidance apg:5 --guidance pag:1@200-800 --rescale 0.5
    python scripts/sample.py --prompt "a white ring above a purple cross" --size 256 --upsample-temp 0.997
    python scripts/sample.py --like outputs/00000.png --scale 5
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from glide.diffusion.samplers.registry import (
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    STEPS_HELP,
    is_count,
    sampler_help,
    spacing_help,
)
from glide.utils import cli as cli
from glide.utils.captions import decode_text
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError, warn
from glide.utils.ranges import COUNT, ETA, FROM_ZERO, SEED, check_numbers
from glide.utils.ranges import STRENGTH as STRENGTH_RANGE
from guidance.options import DEFAULT_OPTIONS, Options
from guidance.registry import RERANK_OPTIONS, SHARED_OPTIONS, check_read, listing, read_by
from guidance.spec import GuidanceSpec
from toolkit.commands.upscale_flags import ONE_STAGE, StageArgs, stage_of
from toolkit.pipelines.recipe import OLD_CALL_SIZE, read_guidance
from toolkit.pipelines.recipe_reader import Recorded, check_trust
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps

CAPTIONS = (
    "a large red circle to the left of a small blue square",
    "a yellow star in the top right corner on a dark blue background",
    "three green triangles",
    "a small pink heart inside a large white square on a gray background",
)
"""Drawn where no caption is asked for."""

STRENGTH = 0.6
LARGEST_TEXT = 2**26  # bytes of a file of captions
"""Of --init-image where none is given; SDEdit (2108.01073) finds 0.3 to 0.6 best."""


GUIDANCE = (
    "How the picture is led to what it shall show; repeat the flag for several at once. SCALE is the strength; FROM-TO "
    "are the training timesteps, of the noisiest 1000 or so down to 0, at which it acts. By default cfg, where the "
    f"model was trained for it. There are:\n{listing()}"
)


@dataclass(frozen=True)
class Sample:
    """The flags."""

    prompt: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="TEXT")] = ()
    """What to draw; repeat the flag for several captions. Without it: a few built-in captions. An empty caption is the
    model without one: it draws whatever it likes, or what other guidances than cfg, apg and clip lead it to."""
    prompts_file: Annotated[str | None, arg(metavar="FILE")] = None
    """Captions from a text file, one a line; empty lines are left out."""
    label: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="CLASS")] = ()
    """For class-conditional models, and for --guidance classifier: the class, by name or number; repeat the flag for
    several."""
    model: Annotated[str, arg(metavar="NAME")] = "shapes"
    """A model folder, an embedded model, a published OpenAI .pt file, or a hub id (org/name)."""
    revision: Annotated[str | None, arg(metavar="NAME")] = None
    """(model) Of a hub id: a branch, a tag or a commit. In other names of networks write org/name@revision."""
    vocab: Annotated[str | None, arg(metavar="NAME")] = None
    """For a published text model: folder or hub id of its captions' vocabulary. By default GLIDE's, from the hub."""
    guidance: Annotated[
        tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][@FROM-TO]", help=GUIDANCE)
    ] = ()
    scale: Annotated[float | None, arg(metavar="FLOAT")] = None
    """Strength of the guidances that are written without one, from 0. By default each one's usual strength."""
    guiding: Annotated[Options, OmitArgPrefixes] = DEFAULT_OPTIONS
    """Of single guidances, whose names are in brackets."""
    rerank: Annotated[str | None, arg(metavar="{clip}")] = None
    """Keep only those pictures of each caption that fit it best, the best first, as --clip finds."""
    keep: Annotated[int | None, arg(metavar="INT")] = None
    """How many of the --num-samples of each caption --rerank keeps. By default 1."""
    num_samples: int = 1
    """Pictures of each caption or class."""
    batch_size: int = 16
    """Pictures in one sampling loop (rounded up to whole network calls). It changes no picture."""
    call_size: int | None = None
    """Pictures in one network call, which does change their last bits. By default as many as the run has, up to 8 on a
    CPU and 32 on a GPU, fewer for large models: less needs less memory, more can be faster."""
    steps: Annotated[int | None, arg(metavar="INT", help=STEPS_HELP)] = None
    respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Instead of --steps: "100", "fast27", "ddim50", or counts for equal sections ("10,10,3,2,2")."""
    spacing: Annotated[str | None, arg(metavar="NAME", help=spacing_help())] = None
    sampler: Annotated[str, arg(metavar="NAME", help=sampler_help())] = DEFAULT_SAMPLER
    eta: float = 0.0
    """Noise that DDIM adds on the way, 0 to 1."""
    deep_every: int = 1
    """Over 1: compute the deep levels of the network at every so many steps only, which is faster and less exact
    (DeepCache)."""
    init_image: Annotated[str | None, arg(metavar="FILE")] = None
    """Begin with this picture in place of noise, as a drawing or a photo to be changed (its middle square)."""
    strength: Annotated[float | None, arg(metavar="SHARE")] = None
    """How far --init-image is noised, above 0 (it stays) to 1 (nothing of it is left). By default 0.6."""
    seed: int = 0
    """Picture i of the run, counted from 0, has the seed SEED + i."""
    out: Annotated[str, arg(metavar="FOLDER")] = "outputs"
    """Where the pictures go, as 00000.png, 00001.png, ...: the next free numbers, never over what is there."""
    grid: bool = False
    """Also one picture of all (grid-00000.png)."""
    gif: bool = False
    """Also an animation of all pictures emerging from noise (grid-00000.gif), before they are enlarged."""
    gif_frames: Annotated[str, arg(metavar="{xt,x0}")] = "xt"
    """What the animation shows: the noisy picture, or what the model takes it to be."""
    second: Annotated[StageArgs, OmitArgPrefixes] = ONE_STAGE
    like: Annotated[str | None, arg(metavar="FILE.png")] = None
    """Draw a picture (or a grid) of an earlier run again, bit for bit on the same machine; other flags change it."""
    trust_recipe: bool = False
    """(like) Take also the networks and files that the picture's recipe names beyond the embedded models, and compile
    where it did. Without, they are listed, and taken where they are given as flags too."""
    device: str = "auto"
    """auto: a GPU where there is one. Or cpu, cuda, cuda:1, ..."""
    dtype: DType = AUTO
    compile: bool = False
    """Compile the networks first (torch.compile; on a GPU with CUDA graphs): a minute or so, for many pictures."""

    def check(self) -> None:
        """InputError for flags out of their range, or that exclude each other."""
        check_numbers(self)
        if self.steps is not None and self.respacing is not None:
            raise InputError("got --steps and --respacing, expected one of them: leave one out")
        if self.prompt and self.prompts_file is not None:
            raise InputError("got --prompt and --prompts-file, expected one of them: leave one out")
        if self.gif_frames not in ("xt", "x0"):
            raise InputError(f"got --gif-frames {self.gif_frames!r}, expected xt or x0: choose one of these")
        if self.strength is not None and self.init_image is None:
            raise InputError(
                f"got --strength {self.strength:g} without a picture to begin with, expected both: add --init-image"
            )
        self.second.check()
        self._check_rerank()

    def _check_rerank(self) -> None:
        if self.rerank is None:
            if self.keep is not None:
                raise InputError(f"got --keep {self.keep} without --rerank, expected both: add --rerank clip")
            return
        if self.rerank != "clip":
            raise InputError(f"got --rerank {self.rerank!r}, expected clip: write --rerank clip")
        if not 1 <= self.kept <= self.num_samples:
            raise InputError(
                f"got --keep {self.kept} of --num-samples {self.num_samples}, expected 1 to {self.num_samples}: keep "
                "fewer, or draw more"
            )

    @property
    def kept(self) -> int:
        """Pictures of each caption that are written."""
        return self.num_samples if self.rerank is None else 1 if self.keep is None else self.keep

    def settings(self, has_null: bool) -> SamplingConfig:
        """How to draw; has_null: whether the model knows classifier-free guidance. InputError out of range."""
        spec = self.respacing or spec_of_steps(DEFAULT_STEPS if self.steps is None else self.steps)
        usual = "cfg" if has_null or self.guiding.negative is not None else "none"
        strength = 1.0 if self.init_image is None else STRENGTH if self.strength is None else self.strength
        settings = SamplingConfig(
            self.sampler,
            spec,
            self.eta,
            self.guidance or usual,
            self.scale,
            self.guiding,
            strength=strength,
            spacing=self.spacing,
            deep_every=self.deep_every,
        )
        also = read_by(self.second.specs) | (RERANK_OPTIONS if self.rerank else frozenset())
        check_read(settings.specs, self.guiding.given(), also)
        return settings

    def captions(self) -> tuple[str, ...]:
        """The captions asked for, none if none were. InputError for a file that cannot be used."""
        return read_captions(self.prompts_file) if self.prompts_file is not None else self.prompt


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[Sample, Mapping[str, Any] | None]:
    """The flags, with those of --like's picture in place of the defaults, and its recipe.

    argv: None is the process's own. InputError where they do not parse or do not fit.
    """
    given = cli.parse(Sample, description, argv)
    if given.like is None:
        given.check()
        return given, None
    from glide.utils.images import read_recipe

    recipe = read_recipe(given.like)
    if "made_by" in recipe:
        raise InputError(
            f"{given.like} was made by {recipe['made_by']}, which --like does not repeat, expected a picture of "
            "sample.py: run that script again"
        )
    args = cli.parse(Sample, description, argv, _as_drawn(given, Recorded(recipe, given.like)))
    args.check()
    check_trust(args, given)
    if args.compile and not (given.compile or given.trust_recipe):
        warn(f"{given.like} was drawn with --compile, which is done where you ask for it: add the flag")
        args = replace(args, compile=False)
    return args, recipe


def _as_drawn(given: Sample, recipe: Recorded) -> Sample:
    """The flags with which the picture was drawn; a flag given now takes the place of those that it excludes."""
    if "enlarged" in recipe:
        raise InputError(
            f"{given.like} was not drawn but enlarged, from {recipe.values['enlarged']}: repeat that by "
            "scripts/upsample.py"
        )
    guidance, scale, options = read_guidance(recipe)
    stage = stage_of(recipe)
    if stage:
        _, _, of_stage = read_guidance(recipe.table("upsampler"))
        options = replace(options, **of_stage.given())
    default = Sample(
        model=recipe.network(),
        vocab=recipe.text("vocab", None),
        guidance=guidance,
        scale=scale,
        guiding=options,
        rerank=recipe.text("rerank", None),
        keep=recipe.whole("keep", COUNT, None),
        num_samples=recipe.whole("num_samples", COUNT, 1),
        call_size=recipe.whole("call_size", COUNT, OLD_CALL_SIZE),
        spacing=recipe.text("spacing", "uniform"),
        sampler=recipe.text("sampler"),
        eta=recipe.real("eta", ETA),
        deep_every=recipe.whole("deep_every", COUNT, 1),
        init_image=recipe.text("init_image", None),
        strength=recipe.real("strength", STRENGTH_RANGE, None),
        seed=recipe.whole("seed", SEED),
        second=StageArgs(**stage),
        grid=recipe.whole("num_pictures", COUNT, 0) > 0,
        device=recipe.text("device"),
        dtype=recipe.text("dtype"),
        compile=recipe.flag("compile", False),
        like=given.like,
    )
    prompts = recipe.texts("prompts") if "prompts" in recipe else _one(recipe.text("prompt", None))
    labels = _labels(recipe)
    respacing = recipe.text("respacing")
    if given.steps is None and given.respacing is None:
        default = replace(default, respacing=respacing)
    if given.respacing is not None and not is_count(given.respacing):
        default = replace(default, spacing=None)  # it names its timesteps itself
    if not (given.prompt or given.prompts_file or given.label):
        default = replace(default, prompt=prompts, label=labels)
    if given.guidance:  # of the options only those that still belong to one
        read = read_by([GuidanceSpec.parse(text) for text in given.guidance]) | SHARED_OPTIONS
        read |= RERANK_OPTIONS if default.rerank else frozenset()
        read |= read_by(default.second.specs)
        default = replace(default, guidance=(), scale=None, guiding=options.of(read))
    second = default.second
    if given.second.upsample_guidance:
        second = replace(second, upsample_guidance=())
    if given.second.upsample_steps is not None:
        second = replace(second, upsample_respacing=None)
    if given.second.upsample_respacing is not None and not is_count(given.second.upsample_respacing):
        second = replace(second, upsample_spacing=None)
    return replace(default, second=second)


def _one(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _labels(recipe: Recorded) -> tuple[str, ...]:
    """The classes of a grid or of a picture, by their numbers; the null class is left out."""
    if "labels" in recipe:
        numbers = recipe.numbers("labels", FROM_ZERO)
    else:
        null = recipe.values.get("label") is None
        numbers = (None if null else recipe.whole("label", FROM_ZERO),)
    return tuple(str(number) for number in numbers if number is not None)


def read_captions(path: str) -> tuple[str, ...]:
    """The lines of a text file that are not empty. InputError if it cannot be read, is no text, or has none."""
    from glide.utils.filesystem import read_bytes

    lines = decode_text(read_bytes(path, LARGEST_TEXT), path).splitlines()
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        raise InputError(f"{path} holds no captions, expected one a line: write some")
    return captions
