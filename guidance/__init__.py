"""Plug-ins that steer a denoiser, and the pipeline that joins them to a model.

    from guidance import Pipeline

The names below are imported when they are first used, so that `--help` and `import guidance` stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guidance.annealing import ConditionAnnealing
    from guidance.autoguidance import Autoguidance
    from guidance.classifier_free import ClassifierFree
    from guidance.compose import Guidance, Reference, guide
    from guidance.likelihood import LogLikelihood
    from guidance.options import Options
    from guidance.perturbed import PerturbedAttention
    from guidance.pipeline import Pipeline
    from guidance.projected import AdaptiveProjected
    from guidance.terms import EVERYWHERE

__all__ = [
    "EVERYWHERE",
    "AdaptiveProjected",
    "Autoguidance",
    "ClassifierFree",
    "ConditionAnnealing",
    "Guidance",
]
__all__ += ["LogLikelihood", "Options", "PerturbedAttention", "Pipeline", "Reference", "guide"]

_HOME = {
    "AdaptiveProjected": "projected",
    "Autoguidance": "autoguidance",
    "ClassifierFree": "classifier_free",
    "ConditionAnnealing": "annealing",
    "EVERYWHERE": "terms",
    "Guidance": "compose",
    "LogLikelihood": "likelihood",
    "Options": "options",
    "PerturbedAttention": "perturbed",
    "Pipeline": "pipeline",
    "Reference": "compose",
    "guide": "compose",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
