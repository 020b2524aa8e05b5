"""DeepCache (2312.00858): the deep levels of a U-Net change little from step to step, so most steps reuse them.

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.cpu import dispatch
from glide.networks.unet import UNet


@dataclass
class _Cached:
    """The result of one network call of a step."""

    cond: Conditioning
    deep: Tensor  # [N,C,H,W] output of the deep levels, upsampled to the first


class DeepCache:
    """A network for one sampling run: the whole U-Net at every N-th timestep, its first level alone at the others.

    The first level receives x_t, t and the last output of the deep levels (section 3.2, with the branch between the
    first level and the second). A step may make several network calls, in the same order in every step; a call with
    another conditioning than the call of its place in the last step computes the whole U-Net. every = 1 is the network
    itself.
    """

    def __init__(self, unet: UNet, every: int) -> None:
        """every: N, at least 1."""
        assert every >= 1
        self.unet, self.every = unet, every
        self._first_level = (
            unet.config.num_res_blocks + 1
        )  # skips of the first level, and decoder blocks that use them
        self._cached: dict[int, _Cached] = {}  # by the call's place in its step
        self._step, self._call, self._t = -1, 0, -1

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """x [N,C,H,W] at timesteps t [N], the same for all, cond -> [N,out_channels,H,W]."""
        if int(t[0]) != self._t:
            self._step, self._call, self._t = self._step + 1, 0, int(t[0])
        cached = self._reusable(x, cond)
        emb = self.unet.embed(t, cond)  # [N,E]
        activations = self.unet.encode(x, emb, cond)  # computed one by one
        skips = list(islice(activations, self._first_level))
        if cached is None:
            *deep_skips, h = activations
            deep = self.unet.decode(h, deep_skips, emb, cond, blocks=slice(None, -self._first_level))
            cached = self._cached[self._call] = _Cached(_key(cond), deep)
        self._call += 1
        h = self.unet.decode(cached.deep, skips, emb, cond, blocks=slice(-self._first_level, None))
        output = self.unet.output(h)
        dispatch.finish_call(self.unet)
        return output

    def _reusable(self, x: Tensor, cond: Conditioning) -> _Cached | None:
        """The cached result that this call reuses; None where it computes the whole U-Net."""
        cached = self._cached.get(self._call)
        if self._step % self.every == 0 or cached is None or len(cached.deep) != len(x):
            return None
        return cached if cached.cond.same(_key(cond)) else None


def _key(cond: Conditioning) -> Conditioning:
    """The conditioning without the estimate of x0, which is another one in every step."""
    return replace(cond, estimate=None)
