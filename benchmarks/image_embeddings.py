"""Image embeddings on the built-in scenes: facts that variations keep, and pictures of captions by way of a prior.

python benchmarks/image_embeddings.py --model runs/variations --prior shapes-prior
python benchmarks/image_embeddings.py --model runs/variations --cases variations --strengths 0.5 1 2 --scenes 100

Held-out scenes, which no training has seen. A variation is drawn from the embedding of a scene's picture, without its
caption, and the oracle judges it by the scene's facts. STRENGTH is that of the guidance `picture`; 1 is none. A prior's
embedding is compared with that of the caption's own picture, and with that of the next scene. Pictures by the prior are
drawn from its embedding, without the caption; in the case `both` the model reads the caption, too, as the decoder of
DALL-E 2 does (2204.06125, section 2.1), at the first of --scales.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.image_encoders import find_image_encoder
from glide.checkpoints.priors import load_prior
from glide.networks.image_encoder import PretrainedImages
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.shapes.dataset import held_out_scenes, render
from glide.shapes.oracle import Oracle
from glide.shapes.scene import Scene
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from glide.utils.images import from_uint8, to_uint8
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.prior import sample_embeddings
from toolkit.pipelines.settings import SamplingConfig

AT_ONCE = 16
"""Pictures of one sampling loop, and of one call of the image encoder."""


@dataclass(frozen=True)
class ImageEmbeddings:
    """The flags."""

    model: str
    """Of train_base.py --image-encoder."""
    prior: str | None = None
    """Of train_prior.py; its cases are left out without it."""
    cases: tuple[Literal["variations", "cosines", "prior", "both", "captions"], ...] = (
        "variations",
        "cosines",
        "prior",
        "both",
        "captions",
    )
    scenes: int = 300
    strengths: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Of the guidance by the picture."""
    scales: tuple[float, ...] = (3.0,)
    """Of classifier-free guidance, for captions."""
    prior_scale: float = 1.0
    steps: int = 20
    seed: int = 0
    dtype: str = "auto"

    def check(self) -> None:
        """InputError for numbers out of range."""
        check_numbers(self)


def measure(args: ImageEmbeddings) -> None:
    """Draw, judge and print. InputError where a model does not fit."""
    pipe = Pipeline.from_pretrained(args.model, dtype=args.dtype)
    config = pipe.model.config
    if config.image_encoder is None:
        raise InputError(
            f"got {args.model}, a model without image embeddings, expected one of train_base.py --image-encoder: give "
            "another"
        )
    scenes = held_out_scenes(args.scenes, seed=args.seed)
    encoder = find_image_encoder(config.image_encoder)
    true = embedded(encoder, torch.from_numpy(render(scenes, config.picture_size)))
    drawn = None
    if args.prior is not None:
        captions = [scene.caption for scene in scenes]
        prior = load_prior(args.prior, pipe.device)
        if prior.config.image_encoder.fingerprint != config.image_encoder.fingerprint:
            raise InputError(
                f"got the prior {args.prior} of other embeddings than the model's, expected those of "
                f"{config.image_encoder.name}: give another"
            )
        drawn = sample_embeddings(prior, captions, range(len(scenes)), scale=args.prior_scale).cpu()
    say("| what | strength | facts right | all facts right |\n|---|---|---|---|", result=True)
    if "variations" in args.cases:
        for strength in args.strengths:
            judged(pipe, args, scenes, "variations", true, strength)
    if drawn is not None and "prior" in args.cases:
        for strength in args.strengths:
            judged(pipe, args, scenes, "captions, by the prior", drawn, strength)
    if drawn is not None and "both" in args.cases:
        judged(pipe, args, scenes, "captions, by the prior and read", drawn, args.scales[0], read=True)
    if "captions" in args.cases:
        for scale in args.scales:
            judged(pipe, args, scenes, "captions, read by the model", None, scale)
    if drawn is not None and "cosines" in args.cases:
        own, next_one = F.cosine_similarity(drawn, true), F.cosine_similarity(drawn, true.roll(1, dims=0))
        say(
            f"cosine of drawn and true embeddings {own.mean():.3f} (the lowest {own.min():.3f}), of unrelated ones "
            f"{next_one.mean():.3f}; of true ones of two scenes "
            f"{F.cosine_similarity(true, true.roll(1, dims=0)).mean():.3f}",
            result=True,
        )


def embedded(encoder: PretrainedImages, pixels: Tensor) -> Tensor:
    """Pictures, uint8 [N,H,W,3] -> embeddings [N,E]."""
    return torch.cat([encoder.encode(from_uint8(part)) for part in pixels.split(AT_ONCE)])


def judged(
    pipe: Pipeline,
    args: ImageEmbeddings,
    scenes: Sequence[Scene],
    what: str,
    embeddings: Tensor | None,
    strength: float,
    read: bool = False,
) -> None:
    """Draw a picture for each scene, and print the share of its facts that hold.

    embeddings: [N,E]; None: the caption is read instead, by classifier-free guidance of that strength. read: both.
    """
    read = read or embeddings is None
    guidance: tuple[str, ...] = ("none",) if strength == 1.0 else (f"picture:{strength}",)
    if read:
        guidance = (f"cfg:{strength}",)
    settings = SamplingConfig(respacing=str(args.steps), guidance=guidance)
    requests = [
        ImageRequest(
            i,
            scene.caption if read else "",
            given=KnownPixels(embedding=None if embeddings is None else embeddings[i]),
        )
        for i, scene in enumerate(scenes)
    ]
    oracle, right, asked, whole = Oracle(), 0, 0, 0
    starts = progress(range(0, len(requests), AT_ONCE), desc=f"{what} {strength:g}", unit="batch")
    for start in starts:
        part = slice(start, start + AT_ONCE)
        *_, last = pipe.draw(requests[part], settings)
        for scene, pixels in zip(scenes[part], to_uint8(last.x), strict=True):
            judgement = oracle.judge(pixels.numpy(), scene.facts)
            right += sum(held for _, held in judgement.verdicts)
            asked += len(judgement.verdicts)
            whole += judgement.all_right
    say(
        f"| {what} | {strength:g} | {right / asked:.1%} of {asked} | {whole / len(scenes):.1%} of {len(scenes)} |",
        result=True,
    )


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(ImageEmbeddings, __doc__, argv)
    args.check()
    measure(args)


if __name__ == "__main__":
    run(main)
