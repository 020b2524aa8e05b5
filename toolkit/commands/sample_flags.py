"""Draw pictures with a text- or class-conditional model.

examples:
    python scripts/sample.py --guidance cfg --scale 3
    python scripts/sample.py --prompt "a large red circle to the left of a small blue square" --num-samples 4 --grid
    python scripts/sample.py --prompt "three green stars" --sampler ddpm --respacing 100 --seed 7 --gif
    python scripts/sample.py --prompt "a red ring" --sampler dpmpp-2m --spacing log-snr --steps 20
    python scripts/sample.py --guidance apg:5 --guidance pag:1@200-800 --rescale 0.5
    python scripts/sample.py --prompt "a white ring above a purple cross" --size 256 --upsample-temp 0.997
    python scripts/sample.py --model runs/map --condition map.png --prompt "a red ring" --guidance picture:1.5
    python scripts/sample.py --model runs/variations --like-image photo.png --num-samples 4
    python scripts/sample.py --model runs/variations --prior shapes-prior --prompt "a red ring"
    python scripts/sample.py --like outputs/00000.png --scale 5
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from glide.diffusion.samplers.registry import (
    OWN,
    is_count,
)
from glide.utils import cli as cli
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError, warn
from glide.utils.parts import Part
from glide.utils.ranges import COUNT, ETA, FROM_ZERO, SEED, check_numbers
from glide.utils.ranges import SCALE as SCALE_RANGE
from glide.utils.ranges import STRENGTH as STRENGTH_RANGE
from guidance.options import DEFAULT_OPTIONS
from guidance.registry import RERANK_OPTIONS, SHARED_OPTIONS, check_read, read_by
from guidance.spec import GuidanceSpec
from toolkit.commands import shared_flags as shared
from toolkit.commands.prompt_files import read_rows
from toolkit.commands.upscale_flags import ONE_STAGE, StageArgs, stage_of
from toolkit.pipelines.recipe import OLD_CALL_SIZE, read_guidance
from toolkit.pipelines.recipe_reader import Recorded, check_trust
from toolkit.pipelines.settings import SamplingConfig, respacing_of

CAPTIONS = (
    "a large red circle to the left of a small blue square",
    "a yellow star in the top right corner on a dark blue background",
    "three green triangles",
    "a small pink heart inside a large white square on a gray background",
)
"""The default captions."""

STRENGTH = 0.6
"""Default of --init-image; SDEdit (2108.01073) finds 0.3 to 0.6 best."""


@dataclass(frozen=True)
class Sample:
    """The flags."""

    prompt: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="TEXT")] = ()
    """Caption of the picture; repeat the flag for several. Without it: a few built-in captions. With an empty one
    the model draws unconditionally, or by other guidances than cfg, apg and clip."""
    prompts_file: Annotated[str | None, arg(metavar="FILE")] = None
    """Captions from a file: text, one a line, of which empty lines are left out; JSON lines (.jsonl) with a prompt and,
    if they like, a seed; or such columns of Parquet (.parquet, extra `parquet`)."""
    part: Annotated[str | None, arg(metavar="I/N")] = None
    """(prompts-file) Draw the I-th of N parts of the list, each picture under its number in the list (00000012.png).
    Pictures that are there and whole are skipped, so a part that was stopped goes on; the parts share --out."""
    to_shards: Annotated[str | None, arg(metavar="FOLDER")] = None
    """(prompts-file) Write WebDataset shards, which --data reads, in place of one file each; may be joined with
    --part."""
    label: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="CLASS")] = ()
    """For class-conditional models, and for --guidance classifier: the class, by name or number; repeat the flag for
    several."""
    model: shared.ModelName = "shapes"
    revision: shared.Revision = None
    vocab: shared.Vocab = None
    guidance: shared.GuidanceNames = ()
    scale: shared.Scale = None
    guiding: shared.GuidanceOptions = DEFAULT_OPTIONS
    rerank: Annotated[str | None, arg(metavar="{clip}")] = None
    """Keep only the pictures of each caption that fit it best by --clip, the best first."""
    keep: Annotated[int | None, arg(metavar="INT")] = None
    """(rerank) Pictures of each caption that are kept. By default 1."""
    num_samples: int = 1
    """Pictures of each caption or class."""
    batch_size: int = 16
    """Pictures in one sampling loop (rounded up to whole network calls). It changes no picture."""
    call_size: int | None = None
    """Pictures in one network call; it changes their last bits. By default as many as the run has, up to 8 on a CPU and
    32 on a GPU, fewer for large models: less needs less memory, more can be faster."""
    steps: shared.Steps = None
    respacing: shared.Respacing = None
    spacing: shared.Spacing = None
    sampler: shared.SamplerName = OWN
    eta: shared.Eta = 0.0
    deep_every: int = 1
    """Over 1: compute the deep levels of the network at every so many steps only, which is faster and less exact
    (DeepCache)."""
    init_image: Annotated[str | None, arg(metavar="FILE")] = None
    """Start from this picture instead of noise, for example a drawing or a photo to change (its middle square)."""
    strength: Annotated[float | None, arg(metavar="SHARE")] = None
    """Share of the way to noise that --init-image is taken, above 0 (it stays) to 1 (nothing is left); default 0.6."""
    condition: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="FILE")] = ()
    """Picture that the drawing is conditioned on, for a model that train_base.py trained with --condition; KIND=FILE,
    such as map=scene.png, for a model of several, with the flag repeated. --guidance picture:1.5 is its strength."""
    like_image: Annotated[str | None, arg(metavar="FILE")] = None
    """Draw variations of this picture, by its embedding, with a model that train_base.py trained with --image-encoder;
    with --prompt its caption counts too. --guidance picture:1.5 is the picture's strength."""
    prior: Annotated[str | None, arg(metavar="NAME")] = None
    """Draw the embedding of each caption by this prior of train_prior.py, and the picture by a model of such
    embeddings."""
    prior_scale: Annotated[float | None, arg(metavar="FLOAT")] = None
    """(prior) Scale of classifier-free guidance in the prior; by default 1, which is none."""
    seed: int = 0
    """Picture i of the run, counted from 0, has the seed SEED + i."""
    out: Annotated[str, arg(metavar="FOLDER")] = "outputs"
    """Folder of the pictures, 00000.png, 00001.png, ...: the next free numbers, never over existing files."""
    grid: bool = False
    """Also one picture of all (grid-00000.png)."""
    gif: bool = False
    """Also an animation of all pictures emerging from noise (grid-00000.gif), before they are enlarged."""
    gif_frames: Annotated[str, arg(metavar="{xt,x0}")] = "xt"
    """Frames of the animation: the noisy picture x_t, or the model's estimate x_0."""
    second: Annotated[StageArgs, OmitArgPrefixes] = ONE_STAGE
    like: Annotated[str | None, arg(metavar="FILE.png")] = None
    """Draw a picture (or a grid) of an earlier run again, bit for bit on the same machine; further flags change it."""
    trust_recipe: bool = False
    """(like) Also use the networks and files beyond the embedded models that the recipe names, and compile where it
    did. Without it they are listed, and used only where they are given as flags too."""
    device: shared.Device = "auto"
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
        if self.like_image is not None and self.prior is not None:
            raise InputError("got --like-image and --prior, expected one of them: leave one out")
        if self.prior_scale is not None and self.prior is None:
            raise InputError(
                f"got --prior-scale {self.prior_scale:g} without --prior, expected both: name a prior"
            )
        self.second.check()
        self._check_rerank()
        self._check_parts()

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
    def in_parts(self) -> bool:
        """True for a list whose pictures are named by their numbers (toolkit/commands/sample_rows.py)."""
        return self.part is not None or self.to_shards is not None

    def _check_parts(self) -> None:
        if not self.in_parts:
            return
        Part.parse(self.part or "1/1")
        if self.prompts_file is None:
            raise InputError("got --part or --to-shards without a list, expected one: give --prompts-file")
        for name in ("grid", "gif", "rerank", "like", "label", "prior"):
            if getattr(self, name):
                raise InputError(
                    f"got --{name} with --part or --to-shards, which draw single pictures, expected one of them: leave "
                    "one out"
                )

    @property
    def kept(self) -> int:
        """Pictures of each caption that are written."""
        return self.num_samples if self.rerank is None else 1 if self.keep is None else self.keep

    def settings(self, has_null: bool) -> SamplingConfig:
        """The sampling settings. has_null: the model knows classifier-free guidance. InputError for bad values."""
        spec = self.respacing or respacing_of(self.steps)
        words = has_null and (self.like_image is None or bool(self.prompt or self.prompts_file))
        usual = "cfg" if words or self.guiding.negative is not None else "none"
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
        """The captions of the flags, if any. InputError for a file that cannot be used."""
        if self.prompts_file is None:
            return self.prompt
        return tuple(row.caption for row in read_rows(self.prompts_file))


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
            "scripts/sample.py: run that script again"
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
    if "upsampler" in recipe:
        _, _, of_stage = read_guidance(recipe.table("upsampler"))
        options = replace(options, **of_stage.given())
    drawn = Sample(
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
        condition=recipe.texts("condition") if "condition" in recipe else (),
        like_image=recipe.text("like_image", None),
        prior=recipe.text("prior", None),
        prior_scale=recipe.real("prior_scale", SCALE_RANGE, None),
        seed=recipe.whole("seed", SEED),
        second=StageArgs(**stage),
        grid=recipe.whole("num_pictures", COUNT, 0) > 0,
        device=recipe.text("device"),
        dtype=recipe.text("dtype"),
        compile=recipe.flag("compile", False),
        like=given.like,
    )
    prompts = recipe.texts("prompts") if "prompts" in recipe else _one(recipe.text("prompt", None))
    drawn = replace(drawn, prompt=prompts, label=_labels(recipe), respacing=recipe.text("respacing"))
    return _without_excluded(drawn, given)


def _without_excluded(drawn: Sample, given: Sample) -> Sample:
    """The flags of an earlier run, without those that the flags given now exclude."""
    if given.steps is not None or given.respacing is not None:
        drawn = replace(drawn, respacing=None)
    if given.respacing is not None and not is_count(given.respacing):
        drawn = replace(drawn, spacing=None)  # it names its timesteps itself
    if given.prompt or given.prompts_file or given.label:
        drawn = replace(drawn, prompt=(), label=())
    if given.condition:
        drawn = replace(drawn, condition=())
    if given.like_image is not None:
        drawn = replace(drawn, prior=None, prior_scale=None)
    if given.prior is not None:
        drawn = replace(drawn, like_image=None)
    if given.guidance:  # of the options only those that still belong to one
        read = read_by([GuidanceSpec.parse(text) for text in given.guidance]) | SHARED_OPTIONS
        read |= RERANK_OPTIONS if drawn.rerank else frozenset()
        read |= read_by(drawn.second.specs)
        drawn = replace(drawn, guidance=(), scale=None, guiding=drawn.guiding.of(read))
    second = drawn.second
    if given.second.upsample_guidance:
        second = replace(second, upsample_guidance=())
    if given.second.upsample_steps is not None:
        second = replace(second, upsample_respacing=None)
    if given.second.upsample_respacing is not None and not is_count(given.second.upsample_respacing):
        second = replace(second, upsample_spacing=None)
    return replace(drawn, second=second)


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
