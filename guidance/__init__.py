"""Guidance: plug-ins that correct a denoiser's prediction at every step.

The names below are imported when they are first used, so that `--help` and `import guidance` stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

try:
    from glide.utils.installation import check_packages
except ModuleNotFoundError as error:  # another package named glide
    do = "run `pip uninstall glide` and `pip install --force-reinstall glide-toolkit`, in an environment of its own"
    raise ImportError(f"{__name__} finds another package named glide than Glide Toolkit's: {do}") from error

if TYPE_CHECKING:
    from guidance.adaptive_projected import AdaptiveProjected
    from guidance.autoguidance import Autoguidance
    from guidance.base import Guidance, Reference
    from guidance.classifier_free import ClassifierFree
    from guidance.condition_annealing import ConditionAnnealing
    from guidance.guided_denoiser import guide
    from guidance.internal import InternalGuidance
    from guidance.likelihood import LogLikelihood
    from guidance.options import Options
    from guidance.perturbed_attention import PerturbedAttention
    from guidance.scheduled import Scheduled
    from guidance.spec import EVERYWHERE, with_strength

__toolkit__ = "glide-toolkit"
__all__ = [
    "EVERYWHERE",
    "AdaptiveProjected",
    "Autoguidance",
    "ClassifierFree",
    "ConditionAnnealing",
    "Guidance",
    "InternalGuidance",
]
__all__ += ["LogLikelihood", "Options", "PerturbedAttention", "Reference", "Scheduled", "guide"]
__all__ += ["with_strength"]

_HOME = {
    "AdaptiveProjected": "adaptive_projected",
    "Autoguidance": "autoguidance",
    "ClassifierFree": "classifier_free",
    "ConditionAnnealing": "condition_annealing",
    "EVERYWHERE": "spec",
    "Guidance": "base",
    "InternalGuidance": "internal",
    "LogLikelihood": "likelihood",
    "Options": "options",
    "PerturbedAttention": "perturbed_attention",
    "Reference": "base",
    "Scheduled": "scheduled",
    "guide": "guided_denoiser",
    "with_strength": "spec",
}

check_packages("glide", __name__)


def __getattr__(name: str) -> Any:
    if name == "Pipeline":  # where it was once
        raise ImportError("guidance has no Pipeline: write `from toolkit import Pipeline`")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
