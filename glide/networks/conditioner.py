"""The conditioner: captions and classes, encoded, and given pixels, as the conditioning of a U-Net.

Shape letters: N pictures, H W pixels, h w pixels of a low-resolution picture.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.key_cache import with_keys
from glide.networks.model import Model
from glide.networks.picture_sizes import in_first_stage
from glide.networks.unet import UNet
from glide.utils.class_names import class_number
from glide.utils.errors import InputError


class Conditioner:
    """The conditions of a model, each encoded once and alone, in float32, with the keys of all attention layers.

    Alone, because an encoder's last bits depend on how many captions it gets, and a picture must not.
    """

    def __init__(self, model: Model, unet: UNet | None = None) -> None:
        """unet: that the conditions are for; by default the model's, and not a copy in reduced precision."""
        self.model, self.unet = model, unet or model.unet
        self._null: Conditioning | None = None

    @property
    def has_null(self) -> bool:
        """True if the model has a null condition ("no caption" or "no class"), as classifier-free guidance needs."""
        config = self.model.config
        conditional = config.reads_captions or config.num_classes > 0
        return conditional and (config.num_classes == 0 or config.null_class)

    def null(self) -> Conditioning:
        """The null condition without planes, one row for all pictures. InputError where the model has none."""
        if not self.has_null:
            kind = "no null class" if self.model.config.num_classes else "no condition at all"
            raise InputError(
                f"got classifier-free guidance for a model with {kind}, expected a model that was trained with a "
                "null: choose the guidance 'none'"
            )
        if self._null is None:
            self._null = self._encode("", None)
        return self._null

    def negative(self, text: str) -> Conditioning:
        """The negative condition: that of a caption, or of a class by name or number; one row, no planes.

        InputError for a class that the model does not have, or a model without conditions.
        """
        config = self.model.config
        if config.reads_captions:
            return self._encode(text, None)
        if config.num_classes:
            return self._encode("", class_number(config, text))
        raise InputError(
            f"got the negative caption {text!r} for a model with no condition at all, expected none: leave it out"
        )

    def of(self, pictures: Sequence[ImageRequest], size: tuple[int, int] | None = None) -> Conditioning:
        """The conditions of N pictures of `size` (the model's own by default), [N,...].

        InputError for a caption or class that the model does not take, or where an upsampler is given nothing.
        """
        encoded: dict[tuple[str, int | None], Conditioning] = {}
        for picture in pictures:
            key = (picture.caption, picture.label)
            if key not in encoded:
                encoded[key] = self._encode(*key)
        words = Conditioning.cat([encoded[picture.caption, picture.label] for picture in pictures])
        return words.joined(self.images_of(pictures, size))

    def images_of(
        self, pictures: Sequence[ImageRequest], size: tuple[int, int] | None = None
    ) -> Conditioning:
        """The image-shaped part of `of`."""
        shown: dict[int, Conditioning] = {}
        for picture in pictures:
            if id(picture.given) not in shown:
                shown[id(picture.given)] = self._images(picture.given, size)
        return Conditioning.cat([shown[id(picture.given)] for picture in pictures])

    @torch.no_grad()
    def _images(self, given: KnownPixels, size: tuple[int, int] | None) -> Conditioning:
        """The image-shaped part of one picture's conditioning, [1,...]. InputError for missing or unfit pixels."""
        model = self.model
        size = size or in_first_stage(model.config)
        inputs: dict[str, Tensor] = {}
        for part in model.parts:
            inputs |= part.known(given, size, model.device)
        return model.condition_on_images(inputs, size)

    @torch.no_grad()
    def _encode(self, caption: str, label: int | None) -> Conditioning:
        model, config = self.model, self.model.config
        batch: dict[str, Tensor] = {}
        if config.reads_captions:
            batch |= model.caption_batch([caption])
        if config.num_classes:
            if label is None and not config.null_class:
                raise InputError(
                    f"got no class for a model that needs one, expected 0 to {config.num_classes - 1}: give a label"
                )
            batch |= model.label_batch([config.num_classes if label is None else label])
        return with_keys(self.unet, model.encode(batch))
