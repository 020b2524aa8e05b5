"""Text- and class-conditional diffusion models: networks, mathematics, data, training.

The package itself imports nothing heavy, so that `import glide` and every `--help` answer at once; the modules are
imported where they are used (`from glide.checkpoints.load import load_model`).
"""

from glide.utils.installation import check_packages
from glide.version import __version__

__all__ = ["__version__"]
__toolkit__ = "glide-toolkit"

check_packages()
