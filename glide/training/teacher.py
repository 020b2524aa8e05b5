"""The teacher of a distillation: a frozen model, guided, as one function from x_t to x0.

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from glide.diffusion.denoiser import split_variance, to_x0
from glide.diffusion.process import gather
from glide.networks.cpu.prepacked import pack_
from glide.networks.guidance_strength import GuidanceStrength
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_
from glide.utils.errors import InputError

Inputs = dict[str, Tensor]


class Teacher:
    """A frozen model's x0 with classifier-free guidance of a strength for each picture, in the model's bounds.

    A student as teacher receives the strength, and needs one evaluation; another model is evaluated with and without
    words.
    """

    def __init__(self, model: Model, dtype: torch.dtype = torch.float32) -> None:
        """model: of nobody else, on its device; its weights are rounded and packed. dtype: its U-Net's."""
        self.model = model.eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.receives_strength = GuidanceStrength.used(model.config)
        unet = lower_(self.model.unet, dtype)
        self.network = pack_(unet) if model.device.type == "cpu" else unet
        self.alpha = np.sqrt(model.process.alpha_bar)  # [T]
        self.sigma = np.sqrt(1.0 - model.process.alpha_bar)  # [T]

    @property
    def has_null(self) -> bool:
        """True if it has a condition to leave out, as guidance by two evaluations needs."""
        config = self.model.config
        return config.reads_captions or (config.num_classes > 0 and config.null_class)

    @torch.no_grad()
    def x0(
        self,
        x_t: Tensor,
        t: Tensor,
        inputs: Inputs,
        null: Inputs | None = None,
        strength: Tensor | None = None,
    ) -> Tensor:
        """x0 [N,C,H,W] at x_t [N,C,H,W] and t [N].

        null: the words of `inputs` left out, for guidance by two evaluations. strength [N]: None is no guidance.
        """
        if strength is None:
            return self._clamped(self._predicted(x_t, t, inputs))
        if self.receives_strength:
            return self._clamped(self._predicted(x_t, t, inputs | {"guidance_strength": strength}))
        if null is None:
            raise InputError(
                "got a strength of guidance for a teacher without a null condition, expected none: give a model "
                "that was trained with --null-captions"
            )
        both = {name: torch.cat([part, null.get(name, part)]) for name, part in inputs.items()}
        x0 = self._predicted(x_t.repeat(2, 1, 1, 1), t.repeat(2), both)  # [2N,C,H,W]
        with_words, without = x0.chunk(2)
        w = strength.to(x0)[:, None, None, None]
        return self._clamped(without + w * (with_words - without))

    def _predicted(self, x: Tensor, t: Tensor, inputs: Inputs) -> Tensor:
        """The unguided x0, as it is."""
        with torch.autocast(x.device.type, enabled=False):
            cond = self.model.condition(inputs, (x.shape[-2], x.shape[-1]))
            output = self.network(x.contiguous(memory_format=torch.channels_last), t, cond).float()
        mean, _ = split_variance(output, x.shape[1])
        alpha, sigma = gather(self.alpha, t, x), gather(self.sigma, t, x)
        return to_x0(self.model.config.process.prediction, mean, x, alpha, sigma)

    def _clamped(self, x0: Tensor) -> Tensor:
        """x0 within the bounds of pictures, as sampling has it."""
        return self.model.first_stage.clamp(x0)
