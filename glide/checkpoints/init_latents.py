"""Begin a model of latents with the weights of a model of pixels: the trunk stays, its first and last layers change.

An autoencoder's latents are nearly a linear function of the picture at their size, and the other way. The two maps
that fit best, by least squares over some pictures, are multiplied into the first and the last layer. The model then
draws about what it drew before, and learns the rest.

Shape letters: N pictures, C channels, H W pixels, c latent channels, h w latents, p patch size.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.init_from import stem_without_mask
from glide.networks.first_stage import FirstStage
from glide.networks.model import Model
from glide.utils.errors import InputError


@torch.no_grad()
def with_latents(source: Model, model: Model, pictures: Tensor) -> Model:
    """A copy of `source`, which draws pixels, that draws the latents of `model`'s first stage.

    pictures: of the data, [N,C,H,W] in [-1, 1]. InputError for a model with other image-shaped inputs than those of
    inpainting, or of another number of channels than the autoencoder's pictures.
    """
    ours, theirs = model.config, source.config
    pixels, latents = theirs.unet.in_channels, ours.unet.in_channels
    if theirs.unet.self_condition or theirs.low_res or pixels != ours.picture_channels:
        raise InputError(
            "got --init with a model of pixels that is shown its own estimate or a small picture, or of another "
            "number of channels than the autoencoder's, expected a plain base model: leave --init out"
        )
    read, offset = linear_map(*_paired(model.first_stage, pictures))  # [C,c], [C]
    write, start = linear_map(*reversed(_paired(model.first_stage, pictures)))  # [c,C], [c]
    learned = theirs.unet.out_channels // pixels
    unet = dataclasses.replace(theirs.unet, in_channels=latents, out_channels=latents * learned)
    inpaint = theirs.inpaint and ours.inpaint  # zeros say that nothing is known: the planes can be left out
    config = dataclasses.replace(theirs, unet=unet, first_stage=ours.first_stage, inpaint=inpaint)
    state, area = source.state_dict(), theirs.unet.patch_size**2
    weight = state["unet.stem.weight"] if inpaint else stem_without_mask(source)
    stem, bias = _stem(weight, read, offset, area, inpaint)
    head = state["unet.head.weight"].unflatten(0, (learned, pixels, area))  # [L,C,pp,...]
    level = state["unet.head.bias"].unflatten(0, (learned, pixels, area))  # [L,C,pp]
    level = torch.einsum("dc,lci->ldi", write, level)
    if theirs.process.prediction == "x0":
        level[0] += start[:, None]
    changed = Model(config, source.tokenizer)
    changed.load_state_dict(
        state
        | {
            "unet.stem.weight": stem,
            "unet.stem.bias": state["unet.stem.bias"] + bias,
            "unet.head.weight": torch.einsum("dc,lci...->ldi...", write, head).flatten(0, 2),
            "unet.head.bias": level.flatten(),
        }
    )
    changed.first_stage = model.first_stage
    return changed


def _stem(weight: Tensor, read: Tensor, offset: Tensor, area: int, inpaint: bool) -> tuple[Tensor, Tensor]:
    """The stem's weights [O,I,k,k] for latents, and what is added to its bias [O].

    read [C,c], offset [C]: pixels = read @ latents + offset. area: of a patch. inpaint: there are planes of a masked
    picture and its mask, after those of x_t.
    """
    pixels = len(read)

    def of_latents(part: Tensor) -> tuple[Tensor, Tensor]:
        patches = part.unflatten(1, (pixels, area))  # [O,C,pp,k,k]
        new = torch.einsum("ocikl,cd->odikl", patches, read).flatten(1, 2)
        return new, torch.einsum("ocikl,c->oikl", patches, offset)  # [O,c*pp,k,k], [O,pp,k,k]

    x, shift = of_latents(weight[:, : pixels * area])
    parts, rest = [x], weight[:, pixels * area :]
    if inpaint:
        known, moved = of_latents(rest[:, : pixels * area])
        mask = rest[:, pixels * area : (pixels + 1) * area] + moved  # the offset holds where a pixel is known
        parts += [known, mask]
        rest = rest[:, (pixels + 1) * area :]
    return torch.cat([*parts, rest], dim=1), shift.flatten(1).sum(dim=1)


def _paired(stage: FirstStage, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The latents of pictures, and the pictures at their size: [M,c] and [M,C], M = N*h*w."""
    latents = torch.cat([stage.encode(one[None]) for one in pictures])  # [N,c,h,w]
    small = F.avg_pool2d(pictures, stage.factor)  # [N,C,h,w]
    return latents.permute(0, 2, 3, 1).flatten(0, 2), small.permute(0, 2, 3, 1).flatten(0, 2)


def linear_map(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """The affine map from rows [M,I] to rows [M,O] that fits best: matrix [O,I] and offset [O], float32."""
    rows = torch.cat([inputs, torch.ones_like(inputs[:, :1])], dim=1).double()
    found = torch.linalg.lstsq(rows, outputs.double()).solution  # [I+1,O]
    return found[:-1].T.float().contiguous(), found[-1].float()
