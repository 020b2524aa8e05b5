"""The built-in guidances, each made by its name from what `--guidance NAME` and its options say.

A plug-in's maker looks the same; `docs/guidance.md` has one. Shape letters: N pictures.
"""

from __future__ import annotations

from glide.networks.conditioner import Conditioner
from glide.networks.fixed_batch import network_of, predict_by
from glide.utils.errors import InputError
from guidance.adaptive_projected import AdaptiveProjected
from guidance.autoguidance import Autoguidance
from guidance.base import Guidance, Reference
from guidance.classifier_free import ClassifierFree
from guidance.condition_annealing import ConditionAnnealing
from guidance.perturbed_attention import PerturbedAttention, choose_layers, perturbed
from guidance.registry import Subject

Interval = tuple[int, int]


def none(subject: Subject, scale: float, interval: Interval) -> list[Guidance]:
    return []


def cfg(subject: Subject, scale: float, interval: Interval) -> ClassifierFree:
    """Away from no caption (or class), or from the negative one."""
    conditions, negative = subject.pipe.conditions, subject.options.negative
    null = conditions.null() if negative is None else conditions.negative(negative)
    empty = conditions.model.config.text is not None and any(not p.caption for p in subject.pictures)
    if empty and scale not in (0.0, 1.0) and negative is None:
        raise InputError(
            "got an empty caption, expected words to guide towards: describe the picture, or draw one without a "
            "caption by the guidance 'none'"
        )
    return ClassifierFree(scale, null, interval)


def apg(subject: Subject, scale: float, interval: Interval) -> AdaptiveProjected:
    options = subject.options
    return AdaptiveProjected(
        cfg(subject, scale, interval), options.apg_eta, options.apg_norm, options.apg_momentum
    )


def auto(subject: Subject, scale: float, interval: Interval) -> Autoguidance:
    """Away from the weaker model, told the same. InputError for one that draws other pictures."""
    from guidance.compatibility import check_fits

    pipe = subject.pipe
    weak = pipe.guides.weak(subject.options)
    ours, theirs = pipe.model.config, weak.config
    check_fits("weaker model", theirs.unet.image_size, theirs.unet.in_channels, theirs.process, ours)
    if theirs.num_classes and theirs.num_classes != ours.num_classes:
        raise InputError(
            f"got a weaker model of {theirs.num_classes} classes for a model of {ours.num_classes}, expected the same: "
            "give one of the same data"
        )
    predict = predict_by(network_of(weak.unet), weak, pipe.call_size)
    planes = subject.cond.planes
    size = None if planes is None else (planes.shape[-2], planes.shape[-1])
    return Autoguidance(scale, Reference(predict, Conditioner(weak).of(subject.pictures, size)), interval)


def pag(subject: Subject, scale: float, interval: Interval) -> PerturbedAttention:
    pipe = subject.pipe
    layers = choose_layers(pipe.unet, subject.options.pag_layers)
    predict = pipe.predict_by(perturbed(pipe.runner, layers))
    return PerturbedAttention(scale, Reference(predict, subject.cond), interval)


def cads(subject: Subject, scale: float, interval: Interval) -> ConditionAnnealing:
    """Noised from the interval's first timestep on, and nothing but noise from its last one on."""
    return ConditionAnnealing(
        scale, [picture.seed for picture in subject.pictures], interval, subject.options.cads_mix
    )


def classifier(subject: Subject, scale: float, interval: Interval) -> Guidance:
    """Towards each picture's label."""
    from guidance.classifier.guide import classifier_guidance

    pipe = subject.pipe
    network = pipe.guides.classifier(subject.options)
    labels = [picture.label for picture in subject.pictures if picture.label is not None]
    if len(labels) < len(subject.pictures):
        raise InputError(
            "got no class for the guidance 'classifier', expected one to guide towards: give a label"
        )
    return classifier_guidance(
        network, labels, scale, interval, model=pipe.model.config, call_size=pipe.call_size
    )


def clip(subject: Subject, scale: float, interval: Interval) -> Guidance:
    """Towards each picture's caption: by a noisy CLIP of x_t, or by any of the x0 that the model predicts."""
    from guidance.clip.guide import clean_clip_guidance, clip_guidance, through_network
    from guidance.clip.network import NoisyClip

    pipe = subject.pipe
    network = pipe.guides.clip(subject.options)
    captions = [picture.caption for picture in subject.pictures]
    if isinstance(network, NoisyClip) and subject.options.clip_sees == "xt":
        return clip_guidance(
            network,
            captions,
            scale,
            interval,
            model=pipe.model.config,
            dtype=pipe.dtype,
            call_size=pipe.call_size,
        )
    x0_of = through_network(pipe.predict, subject.cond)
    return clean_clip_guidance(
        network, captions, scale, x0_of, interval, dtype=pipe.dtype, call_size=pipe.call_size
    )
