"""Plug-ins that steer a denoiser, and the pipeline that joins them to a model.

    from guidance import Pipeline

The names below are imported when they are first used, so that `--help` and `import guidance` stay light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guidance.classifier_free import ClassifierFree
    from guidance.compose import Guidance, guide
    from guidance.likelihood import LogLikelihood
    from guidance.pipeline import Pipeline

__all__ = ["ClassifierFree", "Guidance", "LogLikelihood", "Pipeline", "guide"]

_HOME = {
    "ClassifierFree": "classifier_free",
    "Guidance": "compose",
    "LogLikelihood": "likelihood",
    "Pipeline": "pipeline",
    "guide": "compose",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
