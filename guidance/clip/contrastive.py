"""The contrastive loss of CLIP: each picture finds its caption among all of a batch, each caption its picture.

Shape letters: N pairs here, M pairs of all processes, K wrong captions of each, L tokens, E embedding width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from glide.data.datasets import Batch
from glide.training.objectives import in_first_stage
from glide.training.row_rng import RowRng
from guidance.clip.network import MAX_SCALE, NoisyClip
from guidance.clip.score_matching import Teacher, gradient_terms, twice_differentiable


@dataclass(frozen=True)
class Contrastive:
    """The task of a noisy CLIP: CLIP's loss (2103.00020, figure 3) on x_t, each picture at a timestep of its own.

    Captions of other pictures are mostly wrong in everything, so what one of them says is enough to tell them apart.
    With captions that are nearly right beside them ("wrong" in a batch) it is not (2210.01936, section 4).

    teacher: a diffusion model whose two predictions say what the gradient should be, which then is learned too: the
    loss plus `gradient_weight` times "gradient_error" (`guidance.clip.score_matching`).
    """

    teacher: Teacher | None = None
    gradient_weight: float = 0.0

    def __call__(self, model: NoisyClip, batch: Batch, t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        """batch: image [N,C,H,W] in [-1,1] with caption (list of N); t [N] -> [N] losses and their companions.

        A CLIP of latents learns from those of the image. wrong in batch: N lists of K captions each, none of which is
        right.
        """
        x0 = in_first_stage(model.first_stage, batch)["image"]
        x_t = model.process.q_sample(x0, t, draws.normal(x0))
        with torch.no_grad():  # the parameter itself: above the limit it would have no gradient back
            model.logit_scale.clamp_(max=math.log(MAX_SCALE))
        n = len(x0)
        captions = [*batch["caption"], *(caption for wrong in batch.get("wrong", ()) for caption in wrong)]
        tokens, mask = model.caption_batch(captions)
        text = model.encode_text(tokens, mask)  # [N+NK,E]
        wrong_text = text[n:].unflatten(0, (n, -1)) if len(text) > n else None  # [N,K,E]
        if self.teacher is None or not torch.is_grad_enabled():  # the latter where its work is only counted
            terms = contrast(model.encode_image(x_t, t), text[:n], tokens[:n], model.scale, wrong_text)
            return terms | {"scale": model.scale.detach().expand(n)}
        rows = caption_rows(draws, len(text) // n - 1)
        wanted = self.teacher.shift(x_t, t, [captions[row] for row in rows])
        with twice_differentiable():
            image = model.encode_image(x_t.requires_grad_(), t)  # [N,E]
        terms = contrast(image, text[:n], tokens[:n], model.scale, wrong_text)
        terms |= gradient_terms(model.scale * (image * text[rows]).sum(dim=1), x_t, t, model.process, wanted)
        loss = terms["loss"] + self.gradient_weight * terms["gradient_error"]
        return terms | {"loss": loss, "scale": model.scale.detach().expand(n)}


def caption_rows(draws: RowRng, wrong: int) -> list[int]:
    """For each of N pictures the caption that its gradient is learned for, as a row of N right and then N times `wrong`
    wrong ones: half of them a wrong one, where there is any, as what is drawn is not always what was asked for."""
    numbers = draws.uniform()
    n = len(numbers)
    if not wrong:
        return list(range(n))
    place = ((2.0 * numbers - 1.0) * wrong).floor().long()  # [N] below 0: the right one
    return [i if k < 0 else n + i * wrong + k for i, k in enumerate(place.tolist())]


def contrast(
    image: Tensor, text: Tensor, tokens: Tensor, scale: Tensor, wrong: Tensor | None = None
) -> dict[str, Tensor]:
    """InfoNCE both ways, [N] each: "loss"; "image_to_text" and "text_to_image", whether the best match is right.

    image, text [N,E] of unit norm, tokens [N,L] of the captions, scale: the inverse temperature. Where processes train
    together, all their pairs are compared; each has as many.
    A caption that stands in the batch m times is no mistake at any of its m places: the wanted distribution is 1/m at
    each. The loss is the divergence from it, so it can always reach zero.
    wrong [N,K,E] of unit norm: further captions, compared with their own picture alone; then there is also "fact", the
    share of them that fit it less than its caption does.
    """
    images, texts, all_tokens = gather(image), gather(text), gather(tokens)  # [M,...]
    same = (tokens[:, None] == all_tokens[None]).all(dim=-1)  # [N,M]
    count = same.sum(dim=1)  # [N]

    def one_way(queries: Tensor, keys: Tensor, further: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, right = scale * queries @ keys.mT, same  # [N,M]
        if further is not None:  # [N,K]
            logits = torch.cat([logits, further], dim=1)  # [N,M+K]
            right = F.pad(same, (0, further.shape[1]), value=False)
        log_p = logits.log_softmax(dim=1)
        loss = -(log_p * right).sum(dim=1) / count - count.log()
        return loss, right.gather(1, logits.argmax(dim=1, keepdim=True))[:, 0].float()

    with torch.autocast(
        image.device.type, enabled=False
    ):  # a scale of 100 leaves nothing of bfloat16's digits
        nearly = None if wrong is None else scale * torch.einsum("ne,nke->nk", image, wrong)  # [N,K]
        to_text, found_text = one_way(image, texts, nearly)
        to_image, found_image = one_way(text, images)
        terms = {
            "loss": (to_text + to_image) / 2,
            "image_to_text": found_text,
            "text_to_image": found_image,
        }
        if nearly is not None:
            own = scale * (image * text).sum(dim=1, keepdim=True)  # [N,1]
            terms["fact"] = (nearly < own).float().mean(dim=1)
    return terms


def gather(x: Tensor) -> Tensor:
    """[N,...] of each process -> [M,...] of all, in order of rank; alone, x itself. Gradients flow back to where each
    row came from, from the losses of all processes; DDP then takes their mean, that of the whole batch.

    Without gradients nothing is gathered: the main process measures alone, and nobody would answer.
    """
    together = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if not together or not torch.is_grad_enabled():
        return x
    return _Gather.apply(x) if x.requires_grad else _gathered(x)


def _gathered(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.rows = len(x)
        return _gathered(x.detach())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.rows :][: ctx.rows]
