"""Upsamplers: the low-resolution planes, their training, and the cascade that joins a second model to the first.

The package itself imports nothing heavy; the modules are imported where they are used.
"""

try:
    from glide.utils.installation import check_packages
except ModuleNotFoundError as error:  # another package named glide
    do = "run `pip uninstall glide` and `pip install --force-reinstall glide-toolkit`, in an environment of its own"
    raise ImportError(f"{__name__} finds another package named glide than Glide Toolkit's: {do}") from error

__toolkit__ = "glide-toolkit"

check_packages("glide", __name__)
