"""DeepCache (2312.00858): the deep levels of a U-Net change little from step to step, so they are not computed at each.

Shape letters: N batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.unet import Deep, UNet


@dataclass
class _Kept:
    """What one network call of a step left behind."""

    cond: Conditioning
    deep: Deep


class DeepCache:
    """A network for one sampling run: at every N-th timestep the whole U-Net, at those between its first level alone.

    The first level sees x_t and t and gets what came out of the deeper ones when they were last computed (section 3.2,
    with the branch between the first level and the second). A step may take several network calls, each in the same
    place of every step; where one is told something else than the last in its place, the whole U-Net is computed for
    it. every = 1 is the network itself.
    """

    def __init__(self, unet: UNet, every: int) -> None:
        """every: N, at least 1."""
        assert every >= 1
        self.unet, self.every = unet, every
        self._kept: dict[int, _Kept] = {}
        self._step, self._call, self._t = -1, 0, -1

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """x [N,C,H,W] at timesteps t [N], the same for all, cond -> [N,out_channels,H,W]."""
        if int(t[0]) != self._t:
            self._step, self._call, self._t = self._step + 1, 0, int(t[0])
        told = replace(cond, estimate=None)  # another one at every step
        kept = self._kept.get(self._call)
        whole = self._step % self.every == 0
        if whole or kept is None or kept.deep.rows != len(x) or not kept.cond.same(told):
            kept = self._kept[self._call] = _Kept(told, Deep())
        self._call += 1
        output: Tensor = self.unet(x, t, cond, kept.deep)
        return output
