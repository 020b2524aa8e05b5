"""The two releases of OpenAI, in their own way: GLIDE's (glide_text2im) and ADM's (guided_diffusion).

Shape letters: B pictures, N rows of a network call, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure.original import SCALE
from benchmarks.measure.wanted import Drawer, Wanted


def guide(model: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Classifier-free guidance as GLIDE's release applies it: N = 2B rows, those with the caption first."""

    def guided(x: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        half = x[: len(x) // 2]
        eps, rest = model(torch.cat([half, half]), t, **conditions).split(3, dim=1)
        with_caption, without = eps.chunk(2)
        both = without + SCALE * (with_caption - without)
        return torch.cat([torch.cat([both, both]), rest], dim=1)

    return guided


def glide_text2im(wanted: Wanted) -> tuple[nn.Module, Drawer]:
    from glide_text2im import model_creation as creation

    config, unet, text = wanted.config, wanted.config.unet, wanted.config.text
    assert text is not None
    options = creation.model_and_diffusion_defaults_upsampler() if config.low_res else None
    options = options or creation.model_and_diffusion_defaults()
    options |= {
        "image_size": unet.image_size,
        "num_channels": unet.channels,
        "num_res_blocks": unet.num_res_blocks,
        "channel_mult": ",".join(str(mult) for mult in unet.channel_mult),
        "num_head_channels": unet.head_channels,
        "attention_resolutions": ",".join(str(unet.image_size // factor) for factor in unet.attention),
        "text_ctx": text.context,
        "xf_width": text.width,
        "xf_layers": text.layers,
        "xf_heads": text.heads,
        "use_fp16": wanted.dtype == "float16",
        "timestep_respacing": str(wanted.steps),
    }
    model, diffusion = creation.create_model_and_diffusion(**options)
    model = model.eval()
    if wanted.dtype == "float16":
        model.convert_to_fp16()
    model.to(wanted.device)
    n = wanted.rows
    conditions: dict[str, Tensor] = {
        "tokens": torch.ones(n, text.context, dtype=torch.int64, device=wanted.device),
        "mask": torch.ones(n, text.context, dtype=torch.bool, device=wanted.device),
    }
    if wanted.guided:
        conditions["mask"][wanted.batch :] = False  # the null caption
    else:
        conditions["low_res"] = wanted.planes()
    call = guide(model) if wanted.guided else model
    return model, lambda: _loop(diffusion, call, n, unet.image_size, conditions, wanted.device)


def guided_diffusion(wanted: Wanted) -> tuple[nn.Module, Drawer]:
    """ADM: the same U-Net, conditioned on a class instead of a caption; two evaluations of a picture are two rows."""
    from guided_diffusion import script_util
    from guided_diffusion.unet import SuperResModel, UNetModel

    unet, n = wanted.config.unet, wanted.rows
    model = (SuperResModel if wanted.config.low_res else UNetModel)(
        image_size=unet.image_size,
        in_channels=unet.in_channels,
        model_channels=unet.channels,
        out_channels=unet.out_channels,
        num_res_blocks=unet.num_res_blocks,
        attention_resolutions=tuple(unet.attention),
        dropout=unet.dropout,
        channel_mult=tuple(unet.channel_mult),
        num_classes=1000,
        use_fp16=wanted.dtype == "float16",
        num_head_channels=unet.head_channels,
        use_scale_shift_norm=True,
        resblock_updown=True,
    ).eval()
    if wanted.dtype == "float16":
        model.convert_to_fp16()
    model.to(wanted.device)
    schedule = "linear" if wanted.config.low_res else "cosine"
    diffusion = script_util.create_gaussian_diffusion(
        steps=1000, learn_sigma=True, noise_schedule=schedule, timestep_respacing=str(wanted.steps)
    )
    conditions = {"y": torch.zeros(n, dtype=torch.int64, device=wanted.device)}
    if wanted.config.low_res:
        conditions["low_res"] = wanted.planes()
    return model, lambda: _loop(diffusion, model, n, unet.image_size, conditions, wanted.device)


def _loop(
    diffusion: Any, model: Any, n: int, size: int, conditions: dict[str, Tensor], device: torch.device
) -> Iterator[object]:
    """The ancestral loop that both releases of OpenAI have."""
    return iter(
        diffusion.p_sample_loop_progressive(
            model, (n, 3, size, size), clip_denoised=True, model_kwargs=conditions, device=device
        )
    )
