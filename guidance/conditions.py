"""From what a picture shows to what the network is told: captions and classes, encoded.

Shape letters: N pictures, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.classes import class_number
from glide.conditioning import Cond
from glide.errors import InputError
from glide.model import Model


@dataclass(frozen=True)
class Picture:
    """What makes one picture of a run: its noise and its condition."""

    seed: int
    caption: str = ""
    """"" is the null caption. A model without text is not told it; a guidance may be."""
    label: int | None = None
    """None is the null class. A model without classes is not told it; a guidance may be."""


class Conditions:
    """The conditions of a model, each encoded once and alone, in float32.

    Alone, because an encoder's last bits depend on how many captions it gets, and a picture shall not.
    """

    def __init__(self, model: Model) -> None:
        """InputError for a model that also needs a low-resolution picture."""
        if model.config.low_res:
            raise InputError(
                "got an upsampler, which enlarges pictures, expected a model that draws them: give a base model"
            )
        self.model = model
        self._null: Cond | None = None

    @property
    def has_null(self) -> bool:
        """Whether the model knows "no caption" or "no class", from which classifier-free guidance leads away."""
        config = self.model.config
        conditional = config.text is not None or config.num_classes > 0
        return conditional and (config.num_classes == 0 or config.null_class)

    def null(self) -> Cond:
        """The null condition, one row for all pictures. InputError where the model has none."""
        if not self.has_null:
            kind = "no null class" if self.model.config.num_classes else "no condition at all"
            raise InputError(
                f"got classifier-free guidance for a model with {kind}, expected a model that was trained with a "
                "null: choose the guidance 'none'"
            )
        if self._null is None:
            self._null = self._encode("", None)
        return self._null

    def negative(self, text: str) -> Cond:
        """In place of the null condition: that of a caption, or of a class by name or number; one row.

        InputError for a class that the model does not have, or a model without conditions.
        """
        config = self.model.config
        if config.text is not None:
            return self._encode(text, None)
        if config.num_classes:
            return self._encode("", class_number(config, text))
        raise InputError(
            f"got the negative caption {text!r} for a model with no condition at all, expected none: leave it out"
        )

    def of(self, pictures: Sequence[Picture]) -> Cond:
        """The conditions of N pictures, [N,...]. InputError for a caption or class that the model does not take."""
        encoded: dict[tuple[str, int | None], Cond] = {}
        for picture in pictures:
            key = (picture.caption, picture.label)
            if key not in encoded:
                encoded[key] = self._encode(*key)
        return Cond.cat([encoded[picture.caption, picture.label] for picture in pictures])

    @torch.no_grad()
    def _encode(self, caption: str, label: int | None) -> Cond:
        model, config = self.model, self.model.config
        batch: dict[str, Tensor] = {}
        if config.text is not None:
            batch |= model.caption_batch([caption])
        if config.num_classes:
            if label is None and not config.null_class:
                raise InputError(
                    f"got no class for a model that needs one, expected 0 to {config.num_classes - 1}: give a label"
                )
            batch |= model.label_batch([config.num_classes if label is None else label])
        if config.inpaint:  # nothing is known
            size = config.unet.image_size
            batch["inpaint_image"] = torch.zeros(1, 3, size, size, device=model.device)
            batch["inpaint_mask"] = torch.zeros(1, 1, size, size, device=model.device)
        return model.condition(batch)
