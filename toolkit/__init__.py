"""What needs a model and its guidance: pipelines, evaluation, commands.

    from toolkit import Pipeline

`Pipeline` is imported when it is first used, so that `import toolkit` and every `--help` stay light.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline

__all__ = ["Pipeline"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolkit.pipelines import pipeline

    return getattr(pipeline, name)


def __dir__() -> list[str]:
    return sorted(__all__)
