"""The page and the images interface of `glide serve` under Ray Serve, with as many replicas as there are GPUs.

pip install 'glide-toolkit[web]' 'ray[serve]'
serve run examples.ray_serve:app

Each replica has its own queue, models and pictures. A browser needs one replica (its uploads are in that one's memory);
clients of the images interface that ask for b64_json or png can be answered by any.
"""

from __future__ import annotations

import os
from typing import Any

from ray import serve

MODELS = os.environ.get("GLIDE_MODELS", "shapes").split(",")
REPLICAS = int(os.environ.get("GLIDE_REPLICAS", "1"))
GPUS = float(os.environ.get("GLIDE_GPUS", "0"))


def build_app() -> Any:
    """The app of one replica, in the replica's process; its thread draws."""
    from toolkit.web.app import build
    from toolkit.web.jobs import JobQueue
    from toolkit.web.picture_store import PictureStore
    from toolkit.web.served_models import ServedModels, labels
    from toolkit.web.worker import Worker

    return build(
        Worker(ServedModels(labels(MODELS)), JobQueue(), PictureStore()), os.environ.get("GLIDE_TOKEN")
    )


class Glide:
    """The deployment; all requests go to the app."""


deployed = serve.deployment(num_replicas=REPLICAS, ray_actor_options={"num_cpus": 1, "num_gpus": GPUS})
app = deployed(serve.ingress(build_app)(Glide)).bind()
