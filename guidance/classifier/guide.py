"""Guidance by a classifier, towards pictures that it takes for a class: by x_t, or by the predicted x0.

Shape letters: N pictures, C channels, H W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.entry import GuidanceEntry, Interval, Option
from guidance.predicted_x0 import X0Of, as_pictures, through_network

if TYPE_CHECKING:
    from torch import Tensor

    from glide.networks.config import ModelConfig
    from glide.networks.first_stage import FirstStage
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
    from guidance.likelihood import LogLikelihood, in_rows

    if model is not None:
        check_classifier(classifier.config, model)
    wanted = _numbers(classifier, labels)

    def classifier_log_prob(x: Tensor, t: int, y: Tensor) -> Tensor:
        return _log_prob(classifier, x, t, y)

    log_prob = in_rows(classifier_log_prob, wanted, "labels", call_size)
    return LogLikelihood(log_prob, scale, interval, _gain(classifier))


def clean_classifier_guidance(
    classifier: NoisyClassifier,
    labels: str | int | Sequence[str | int],
    scale: float,
    x0_of: X0Of,
    interval: tuple[int, int] = EVERYWHERE,
    *,
    first_stage: FirstStage | None = None,
    model: ModelConfig | None = None,
    call_size: int | None = None,
) -> LogLikelihood:
    """Adds scale * d log p(y | x0(x_t)) / d x_t (universal guidance, 2302.07121, eq. 6), p the classifier's.

    x0_of: `through_network` or `past_network` of `guidance.predicted_x0`, which say what they cost. first_stage: of a
    model that draws latents: x0 is decoded, except for a classifier of the same latents. Pictures are resized to the
    classifier's; its timestep, 0, says that they are clean, and one that was trained on clean pictures will do.
    model: whose classes must be the classifier's. Everything else, and the errors, as `classifier_guidance`;
    InputError, too, for a classifier of other latents.
    """
    import torch.nn.functional as F

    from glide.networks.first_stage import PIXELS
    from guidance.compatibility import check_first_stages
    from guidance.likelihood import LogLikelihood, in_rows

    config, stage = classifier.config, first_stage or PIXELS
    if model is not None:
        _check_classes(config, model)
    if config.first_stage is not None:
        check_first_stages("classifier", config.first_stage, stage.config)
        stage = PIXELS
    side, channels = config.encoder.image_size, config.encoder.in_channels
    wanted = _numbers(classifier, labels)

    def of_x0(x0: Tensor, t: int, y: Tensor) -> Tensor:
        pictures = as_pictures(stage, x0, channels, "classifier")
        if pictures.shape[-2:] != (side, side):
            pictures = F.interpolate(pictures, (side, side), mode="bicubic", antialias=True)
        return _log_prob(classifier, pictures, 0, y)

    of_rows = in_rows(of_x0, wanted, "labels", call_size)

    def clean_classifier_log_prob(x: Tensor, t: int) -> Tensor:
        return of_rows(x0_of(x, t), t)

    return LogLikelihood(clean_classifier_log_prob, scale, interval, _gain(classifier))


def _numbers(classifier: NoisyClassifier, labels: str | int | Sequence[str | int]) -> Tensor:
    """The classes wanted as numbers [N] or [1]; the classifier is frozen. InputError for none, or an unknown one."""
    import torch

    names = [labels] if isinstance(labels, str | int) else list(labels)
    if not names:
        raise InputError("got no label for the classifier, expected the class to draw: give one")
    classifier.eval().requires_grad_(False)
    numbers = [class_number(classifier.config, name) for name in names]
    return torch.tensor(numbers, device=classifier.device)


def _log_prob(classifier: NoisyClassifier, x: Tensor, t: int, y: Tensor) -> Tensor:
    """log p(y | x) [N] of x [N,C,H,W] at timestep t and classes y [N]."""
    import torch
    import torch.nn.functional as F

    logits = classifier(x, torch.full_like(y, t))  # [N,K]
    return F.log_softmax(logits.float(), dim=-1).gather(1, y[:, None])[:, 0]


def _gain(classifier: NoisyClassifier) -> float:
    import torch

    half = any(p.dtype == torch.float16 for p in classifier.parameters())  # whose numbers end at 65504
    return 1.0 if half else GAIN


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
    model, call_size = context.model.config, context.call_size
    if inputs.options.classifier_sees == "x0":
        if network.config.first_stage is not None:
            check_drawn_size("classifier", network.config.encoder.image_size, inputs.size)
        x0_of, stage = through_network(context.predict, inputs.cond), context.model.first_stage
        return clean_classifier_guidance(
            network, labels, scale, x0_of, interval, first_stage=stage, model=model, call_size=call_size
        )
    if network.config.first_stage is None and model.first_stage is not None:
        raise InputError(
            "got a noisy classifier of pixels for a model that draws latents, expected one of the same latents: train "
            "one with the model's autoencoder, or let it see decoded pictures (--classifier-sees x0)"
        )
    made = classifier_guidance(network, labels, scale, interval, model=model, call_size=call_size)
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
        Option(
            "classifier_sees",
            str,
            "xt",
            "{xt,x0}",
            "The input of the classifier: xt, the noisy picture, or x0, the one that the model predicts behind it, "
            "decoded and scaled for it: at each step a network call and its gradient more.",
            choices=("xt", "x0"),
        ),
    ),
    labels=True,
    # of the noisiest timesteps both know next to nothing, and a solver without noise keeps what they do there
    acts=(0.0, 0.6),
)
