"""diffusers, in its own way: its blocks put together to the same sizes.

Shape letters: B pictures, N rows of a network call, C channels, H W pixels, L tokens, D token width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from benchmarks.measure.original import SCALE
from benchmarks.measure.wanted import Drawer, Wanted
from glide.networks.input_planes import plane_count


def diffusers(wanted: Wanted) -> tuple[nn.Module, Drawer]:
    """Its U-Net of the same blocks, as its unCLIP pipeline has it, under its DDIM scheduler."""
    from diffusers import DDIMScheduler, UNet2DConditionModel
    from diffusers.utils import logging

    logging.set_verbosity_error()
    config, unet, text = wanted.config, wanted.config.unet, wanted.config.text
    assert text is not None
    attends = [2**level in unet.attention for level in range(len(unet.channel_mult))]
    downs = ["SimpleCrossAttnDownBlock2D" if attend else "ResnetDownsampleBlock2D" for attend in attends]
    ups = ["SimpleCrossAttnUpBlock2D" if attend else "ResnetUpsampleBlock2D" for attend in reversed(attends)]
    model: nn.Module = UNet2DConditionModel(
        sample_size=unet.image_size,
        in_channels=unet.in_channels + plane_count(config),
        out_channels=unet.out_channels,
        block_out_channels=tuple(int(mult * unet.channels) for mult in unet.channel_mult),
        layers_per_block=unet.num_res_blocks,
        down_block_types=tuple(downs),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=tuple(ups),
        attention_head_dim=unet.head_channels,
        cross_attention_dim=text.width,
        resnet_time_scale_shift="scale_shift",
    )
    dtype = getattr(torch, wanted.dtype)
    model = model.to(wanted.device, dtype).eval()
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", clip_sample=True)
    scheduler.set_timesteps(wanted.steps)
    generator = torch.Generator().manual_seed(wanted.batch)
    tokens = torch.randn(wanted.rows, text.context, text.width, generator=generator).to(wanted.device, dtype)
    size = unet.image_size

    def draw() -> Iterator[object]:
        x = torch.randn(wanted.batch, 3, size, size, generator=generator).to(wanted.device, dtype)
        planes = None if wanted.guided else nn.functional.interpolate(wanted.planes().to(dtype), (size, size))
        for t in scheduler.timesteps:
            with torch.no_grad():
                rows = torch.cat([x, x]) if planes is None else torch.cat([x, planes], dim=1)
                eps = model(rows, t, encoder_hidden_states=tokens).sample[:, :3]
                if wanted.guided:
                    with_caption, without = eps.chunk(2)
                    eps = without + SCALE * (with_caption - without)
                x = scheduler.step(eps, t, x).prev_sample
            yield x

    return model, draw
