"""Flags that several commands share: the type of each with its placeholder and its help. Imports no torch."""

from typing import Annotated

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from glide.diffusion.samplers.registry import STEPS_HELP, sampler_help, spacing_help
from guidance.options import Options
from guidance.registry import listing

ModelName = Annotated[
    str,
    arg(
        metavar="NAME",
        help="A model folder, a .zip of one, an embedded model, a published one (the cache command lists them), "
        "a published OpenAI .pt file, or a hub id (org/name).",
    ),
]
Revision = Annotated[
    str | None,
    arg(
        metavar="NAME",
        help="(model) Branch, tag or commit of a hub id. For other networks write org/name@revision.",
    ),
]
Vocab = Annotated[
    str | None,
    arg(
        metavar="NAME",
        help="For a published text model: folder or hub id of its captions' vocabulary. By default GLIDE's, from the "
        "hub.",
    ),
]
GuidanceNames = Annotated[
    tuple[str, ...],
    UseAppendAction,
    arg(
        metavar="NAME[:SCALE][~SHAPE][@FROM-TO]",
        help="Guidance towards the caption or class; repeat the flag for several at once. SCALE is the strength, "
        "or several from the noisiest timestep to the last (0..5); SHAPE is the way to SCALE, cos or exp:RATE; "
        "FROM-TO are the training timesteps at which it acts, from the noisiest (about 1000) down to 0. By default "
        f"cfg, if the model was trained for it. There are:\n{listing()}",
    ),
]
Scale = Annotated[
    float | None,
    arg(
        metavar="FLOAT",
        help="Strength of the guidances that are written without one, from 0. By default each one's usual strength.",
    ),
]
GuidanceOptions = Annotated[
    Options, OmitArgPrefixes, arg(help="Options of single guidances, whose names are in brackets.")
]
Steps = Annotated[int | None, arg(metavar="INT", help=STEPS_HELP)]
Respacing = Annotated[
    str | None,
    arg(
        metavar="SPEC",
        help='Instead of --steps: "100", "fast27", "ddim50", or counts for equal sections ("10,10,3,2,2").',
    ),
]
Spacing = Annotated[str | None, arg(metavar="NAME", help=spacing_help())]
SamplerName = Annotated[str, arg(metavar="NAME", help=sampler_help())]
Eta = Annotated[float, arg(help="Noise that DDIM adds at every step, 0 to 1.")]
Device = Annotated[str, arg(help="auto: a GPU where there is one. Or cpu, cuda, cuda:1, ...")]
