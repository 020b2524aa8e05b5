"""Guidance by a noisy classifier: towards pictures that it takes for a class.

Shape letters: N pictures, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.entry import GuidanceEntry, Interval, Option

if TYPE_CHECKING:
    from torch import Tensor

    from glide.networks.config import ModelConfig
    from guidance.classifier.config import ClassifierConfig
    from guidance.classifier.network import NoisyClassifier
    from guidance.context import GuidanceInputs
    from guidance.likelihood import LogLikelihood

GAIN = 2.0**64  # `LogLikelihood.gain`


def classifier_guidance(
    classifier: NoisyClassifier,
    labels: str | int | Sequence[str | int],
    scale: float,
    interval: tuple[int, int] = EVERYWHERE,
    *,
    model: ModelConfig | None = None,
    call_size: int | None = None,
) -> LogLikelihood:
    """Adds scale * d log p(y | x_t) / d x_t, p the classifier's (ADM, 2105.05233, algorithms 1 and 2).

    classifier: on the pictures' device; it is put in eval mode, its weights are frozen. labels: the class wanted, by
    name or number, of all pictures, or one for each of N. interval: training timesteps, both ends included. model: of
    the diffusion model to steer, with which `check_classifier` compares the classifier. call_size: pictures in one
    call of the classifier, all by default; a fixed number makes a gradient independent of how many pictures there are,
    to the last bit. The classifier may be a lower one (`glide.networks.reduced_precision`); log p is float32.
    InputError for a label that the classifier does not know, or a classifier that does not fit the model.
    """
    import torch
    import torch.nn.functional as F

    from guidance.likelihood import LogLikelihood, in_rows

    config = classifier.config
    if model is not None:
        check_classifier(config, model)
    names = [labels] if isinstance(labels, str | int) else list(labels)
    if not names:
        raise InputError("got no label for the classifier, expected the class to draw: give one")
    wanted = torch.tensor([class_number(config, name) for name in names], device=classifier.device)
    classifier.eval().requires_grad_(False)

    half = any(p.dtype == torch.float16 for p in classifier.parameters())  # whose numbers end at 65504

    def classifier_log_prob(x: Tensor, t: int, y: Tensor) -> Tensor:
        steps = torch.full_like(y, t)
        logits = classifier(x, steps)  # [N,K]
        return F.log_softmax(logits.float(), dim=-1).gather(1, y[:, None])[:, 0]

    log_prob = in_rows(classifier_log_prob, wanted, "labels", call_size)
    return LogLikelihood(log_prob, scale, interval, 1.0 if half else GAIN)


def check_classifier(classifier: ClassifierConfig, model: ModelConfig) -> None:
    """InputError unless the classifier takes the model's pictures or latents, at its noise, and knows the same classes.

    A model without classes can be guided to any classifier's.
    """
    from guidance.compatibility import check_fits

    ours = classifier.encoder
    size, channels = ours.image_size, ours.in_channels
    check_fits("classifier", size, channels, classifier.process, model, classifier.first_stage)
    if not classifier.noised:
        raise InputError(
            "got a classifier that was trained on clean pictures, expected a noisy one: train it without --no-noised"
        )
    _check_classes(classifier, model)


def _check_classes(classifier: ClassifierConfig, model: ModelConfig) -> None:
    if not model.num_classes:
        return
    if classifier.num_classes != model.num_classes:
        raise InputError(
            f"got a classifier of {classifier.num_classes} classes for a model of {model.num_classes}, expected the "
            "same classes: train one on the model's data"
        )
    if not (classifier.class_names and model.class_names):
        return
    for i, (ours, theirs) in enumerate(zip(classifier.class_names, model.class_names, strict=True)):
        if ours != theirs:
            raise InputError(
                f"got a classifier whose class {i} is {ours!r} for a model whose class {i} is {theirs!r}, expected "
                "the same classes: train one on the model's data"
            )


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> Guidance:
    """Guide each picture towards its label, by the classifier of the option `classifier`."""
    from guidance.compatibility import check_drawn_size

    context = inputs.context
    network = context.guide_networks.classifier(inputs.options)
    labels = [request.label for request in inputs.requests if request.label is not None]
    if len(labels) < len(inputs.requests):
        raise InputError(
            "got no class for the guidance 'classifier', expected one to guide towards: give a label"
        )
    made = classifier_guidance(
        network, labels, scale, interval, model=context.model.config, call_size=context.call_size
    )
    check_drawn_size("classifier", network.config.encoder.image_size, inputs.size)
    return made


ENTRY = GuidanceEntry(
    "classifier",
    "by the noisy classifier --classifier, up to 0.6 of the timesteps",
    build,
    scale=4.0,
    options=(
        Option(
            "classifier",
            str,
            "shapes-shape",
            "NAME",
            "A noisy classifier: a folder, an embedded one, classifier-64 to -512, a published .pt file, or a hub id.",
        ),
    ),
    labels=True,
    # of the noisiest timesteps both know next to nothing, and a solver without noise keeps what they do there
    acts=(0.0, 0.6),
)
