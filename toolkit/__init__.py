"""Pipelines, evaluation and commands: everything that needs a model and its guidance.

    from toolkit import Pipeline

`Pipeline` is imported when it is first used, so that `import toolkit` and every `--help` stay light.
"""

from typing import TYPE_CHECKING, Any

try:
    from glide.utils.installation import PACKAGES, check_packages
except ModuleNotFoundError as error:  # another package named glide
    do = "run `pip uninstall glide` and `pip install --force-reinstall glide-toolkit`, in an environment of its own"
    raise ImportError(f"{__name__} finds another package named glide than Glide Toolkit's: {do}") from error

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline

__all__ = ["Pipeline"]
__toolkit__ = "glide-toolkit"

check_packages(*PACKAGES)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolkit.pipelines import pipeline

    return getattr(pipeline, name)


def __dir__() -> list[str]:
    return sorted(__all__)
