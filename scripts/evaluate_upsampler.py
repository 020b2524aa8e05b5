"""Measure an upsampler: PSNR on true small renderings of held-out scenes, beside bicubic and Lanczos.

examples:
    python scripts/evaluate_upsampler.py --model shapes
    python scripts/evaluate_upsampler.py --model runs/shapes-upsampler --pictures 50 --respacing 10
    python scripts/evaluate_upsampler.py --pictures 50 --sampler ddim --respacing fast27 --reference-steps 200

How much of their captions a cascade's pictures show: scripts/evaluate.py --upsampler NAME.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import parse, run


def main(argv: Sequence[str] | None = None) -> None:
    from dataclasses import replace

    from torch import Tensor

    from glide.networks.image_request import ImageRequest
    from toolkit.evaluation.upsampling import Enlarge, EvaluateUpsampler, evaluate_upsampler
    from toolkit.pipelines.parts import UPSAMPLING
    from toolkit.pipelines.settings import SamplingConfig, spec_of_steps
    from toolkit.pipelines.upscale import Upscaler

    args = parse(EvaluateUpsampler, __doc__, argv)
    args.check()  # before the model is read
    stage = Upscaler.load(args.model, UPSAMPLING, args.device, args.dtype)
    usual = replace(stage.settings, temperature=args.temp)
    asked = replace(
        usual,
        sampler=args.sampler or usual.sampler,
        respacing=args.respacing or usual.respacing,
        spacing=args.spacing,
    )

    def by(settings: SamplingConfig) -> Enlarge:
        own = replace(stage, settings=settings, noise=args.noise)
        own.check([ImageRequest(args.seed)])

        def enlarge(pixels: Tensor, caption: str, seed: int) -> Tensor:
            return own.enlarged(pixels, ImageRequest(seed, caption))

        return enlarge

    steps = args.reference_steps
    reference = None if steps is None else by(replace(usual, respacing=spec_of_steps(steps)))
    evaluate_upsampler(args, stage.pipe.model.config, by(asked), reference)


if __name__ == "__main__":
    run(main)
