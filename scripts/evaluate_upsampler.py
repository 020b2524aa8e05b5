"""Measure an upsampler: PSNR on true small renderings of held-out scenes, beside bicubic and Lanczos.

examples:
    python scripts/evaluate_upsampler.py --model shapes
    python scripts/evaluate_upsampler.py --model runs/shapes-upsampler --pictures 50 --respacing 10

How much of their captions a cascade's pictures show: scripts/evaluate.py --upsampler NAME.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.cli import parse, run


def main(argv: Sequence[str] | None = None) -> None:
    from dataclasses import replace

    from torch import Tensor

    from guidance.conditions import Picture
    from guidance.stage import Stage
    from upsampler.evaluate import EvaluateUpsampler, evaluate_upsampler
    from upsampler.parts import UPSAMPLING

    args = parse(EvaluateUpsampler, __doc__, argv)
    stage = Stage.load(args.model, UPSAMPLING, args.device, args.dtype)
    settings = replace(
        stage.settings, respacing=args.respacing or stage.settings.respacing, temperature=args.temp
    )
    stage = replace(stage, settings=settings, noise=args.noise)
    stage.check([Picture(args.seed)])

    def enlarge(pixels: Tensor, caption: str, seed: int) -> Tensor:
        return stage.enlarged(pixels, Picture(seed, caption))

    evaluate_upsampler(args, stage.pipe.model.config, enlarge)


if __name__ == "__main__":
    run(main)
