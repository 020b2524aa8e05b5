"""Training objectives: tasks for `glide.training.fit.fit`, from a batch to losses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glide.data.encodings import Encodings
from glide.data.wrappers import caption_inputs
from glide.diffusion.denoiser import split_inner, split_variance, to_x0
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.losses import check_loss, loss_terms
from glide.diffusion.process import gather
from glide.networks.first_stage import FirstStage
from glide.networks.image_encoder import PretrainedImages
from glide.networks.inner_head import INNER_WEIGHT
from glide.networks.model import Model
from glide.training.augmentation import augment
from glide.training.row_rng import RowRng
from glide.utils.errors import InputError


@dataclass(frozen=True, eq=False)
class Noised:
    """A noised training batch and the inputs that a network receives with it."""

    x0: Tensor  # [N,C,H,W]
    noise: Tensor  # [N,C,H,W]
    x_t: Tensor  # [N,C,H,W]
    inputs: dict[str, Tensor]  # of `Model.forward`


@dataclass(frozen=True)
class DiffusionObjective:
    """Predict the clean picture (or noise, or velocity) from a noised one and its caption or class.

    `null_captions` of the examples lose their caption or class, so that one network learns both terms of
    classifier-free guidance (2207.12598; 20% in GLIDE's fine-tune, 2112.10741 section 2.3). A model with inpainting
    planes is shown the known pixels, and which they are (section 2.4 there); its loss is of all pixels, as there.
    """

    loss: LossConfig = field(default_factory=LossConfig)
    null_captions: float = 0.2
    token_captions: float = 0.0
    """Share of captions of which the network receives the tokens alone, without their pooled vector. Training first
    uses the vector, and then learns little from attention to the tokens (Stable Diffusion 3, 2403.03206, drops its
    text encoders independently for a similar reason)."""
    encodings: Encodings | None = None
    """Kept encodings of a frozen text encoder."""
    null_conditions: float = 0.0
    """Share of the examples that lose the pictures that they are conditioned on, apart from their captions, so that
    each has a strength of its own (InstructPix2Pix, 2211.09800, section 3.2.1). Of several, each is also left out
    alone, as often."""
    image_encoder: PretrainedImages | None = None
    """Of a model that is conditioned on the embeddings of pictures: in training on that of the learned one."""
    inner_weight: float = INNER_WEIGHT
    """Of the loss of the inner head, where the model has one: the same loss of a second prediction, added to that of
    the main one (2512.24176)."""
    augment: float = 0.0
    """Share of the pictures that each movement of `glide.training.augmentation` is done to; the model's configuration
    has `augmentation`."""

    def __call__(self, model: Model, batch: dict[str, Any], t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        """batch, t [N]: as `noised` -> [N] losses."""
        at = self.noised(model, batch, t, draws)
        if not model.config.unet.inner_head:
            output = model(at.x_t, t, at.inputs).float()
            return loss_terms(model.process, self.loss, output, at.x0, at.x_t, t, at.noise)
        output, head = split_inner(model(at.x_t, t, at.inputs, inner=True).float(), at.x0.shape[1])
        terms = loss_terms(model.process, self.loss, output, at.x0, at.x_t, t, at.noise)
        # the head learns no variance, so that its part of a variational loss is its squared error
        plain = replace(self.loss, full_vlb=False)
        inner = loss_terms(model.process, plain, head, at.x0, at.x_t, t, at.noise)["loss"]
        return {**terms, "loss": terms["loss"] + self.inner_weight * inner, "inner": inner}

    def noised(self, model: Model, batch: dict[str, Any], t: Tensor, draws: RowRng) -> Noised:
        """batch: image [N,3,H,W] in [-1,1] with caption (list of N) or y [N]; t [N].

        A model that draws latents learns those of the image, or latents [N,c,h,w] that were encoded ahead.

        Also the keys of the model's image-shaped inputs (`glide.networks.input_planes`): inpaint_mask [N,1,H,W] for a
        model with inpainting planes, low_res [N,3,h,w] and low_res_level [N] for an upsampler, conditions [N,c,H,W] by
        their keys.
        """
        moved = None
        if self.augment:
            image, moved = augment(batch["image"], self.augment, draws)
            batch = {**batch, "image": image}
        if self.image_encoder is not None:
            batch = {**batch, "image_embedding": self.image_encoder.encode(batch["image"])}
        batch = in_first_stage(model.first_stage, batch)
        x0 = batch["image"]
        noise = draws.normal(x0)
        dropped = draws.uniform() < self.null_captions
        inputs = self.words(model, batch, dropped)
        if self.token_captions and model.config.reads_captions:
            keep = draws.uniform() >= self.token_captions
            inputs["keep_vector"] = keep.to(x0)
        if moved is not None:
            inputs["augmentation"] = moved.to(x0)
        for part in model.parts:
            inputs |= part.from_batch(batch)
        inputs |= self._without_conditions(model, inputs, draws)
        x_t = model.process.q_sample(x0, t, noise)
        for part in model.parts:
            inputs |= part.from_estimate(draws.uniform, lambda: estimate_of(model, x_t, t, inputs))
        return Noised(x0, noise, x_t, inputs)

    def words(self, model: Model, batch: dict[str, Any], dropped: Tensor) -> dict[str, Tensor]:
        """The model's inputs of captions and classes, the null ones where `dropped` [N]."""
        inputs: dict[str, Tensor] = {}
        if model.config.reads_captions:
            inputs |= caption_inputs(model, batch, dropped, self.encodings)
        if model.config.num_classes:
            y = batch["y"]
            null = model.config.null_class
            inputs["y"] = torch.where(dropped.to(y.device), model.config.num_classes, y) if null else y
        return inputs

    def _without_conditions(
        self, model: Model, inputs: dict[str, Tensor], draws: RowRng
    ) -> dict[str, Tensor]:
        """The inputs of pictures that the model is conditioned on, left out of a share of the examples."""
        parts = [part for part in model.parts if part.droppable]
        if not parts or not self.null_conditions:
            return {}
        found: dict[str, Tensor] = {}
        dropped = draws.uniform() < self.null_conditions  # [N] all of them
        for part in parts:
            alone = draws.uniform() < self.null_conditions if len(parts) > 1 else dropped
            found |= part.without(inputs, dropped | alone)
        return found

    def check(self, model: Model) -> None:
        """InputError if the model does not fit the task."""
        check_loss(self.loss)
        config = model.config
        if self.token_captions and config.text_encoder is not None and config.text_encoder.pooled == "none":
            raise InputError(
                f"got --token-captions {self.token_captions:g} for a model that receives the tokens of "
                "captions alone, expected 0: leave it out"
            )
        if self.augment and (config.low_res or config.inpaint or config.conditions):
            raise InputError(
                f"got --augment {self.augment:g} for a model with input pictures, which would not be moved along, "
                "expected one of captions or classes: leave it out"
            )
        if self.null_captions and config.num_classes and not config.null_class:
            raise InputError(
                f"null captions are asked for ({self.null_captions}), but this class-conditional model has no null "
                "class; use --null-captions 0, or a model with null_class."
            )


@torch.no_grad()
def estimate_of(model: Model, x_t: Tensor, t: Tensor, inputs: dict[str, Tensor]) -> Tensor:
    """A self-conditioned model's prediction of x0 without an estimate: [N,C,H,W], within its bound, no gradient."""
    alpha_bar = model.process.alpha_bar
    alpha, sigma = gather(np.sqrt(alpha_bar), t, x_t), gather(np.sqrt(1.0 - alpha_bar), t, x_t)
    mean, _ = split_variance(model(x_t, t, inputs).float(), x_t.shape[1])
    return model.first_stage.clamp(to_x0(model.config.process.prediction, mean, x_t, alpha, sigma))


@torch.no_grad()
def in_first_stage(stage: FirstStage, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of pictures as one of what the model draws: the same for pixels, else its latents as "image".

    Of an inpainting model's batch also inpaint_image and inpaint_mask, into which nothing masked reaches.
    """
    if "latents" in batch:
        return {**batch, "image": batch["latents"].float()}
    if "inpaint_mask" in batch:
        image, mask = stage.encode_known(batch["image"], batch["inpaint_mask"])
        batch = {**batch, "inpaint_image": image, "inpaint_mask": mask}
    return {**batch, "image": stage.encode(batch["image"])}
