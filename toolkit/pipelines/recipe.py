"""What a picture's PNG says of how a pipeline drew it: all that is needed to draw it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glide.checkpoints.provenance import environment
from glide.networks.image_request import ImageRequest
from guidance.names import read_by
from toolkit.pipelines.retell import guidance_of
from toolkit.pipelines.settings import SamplingConfig

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline


def recipe_of(pipe: Pipeline, picture: ImageRequest, settings: SamplingConfig, place: int) -> dict[str, Any]:
    """JSON-able. pipe: of the run. place: of the picture in it, counted as `Pipeline.draw` does."""
    found: dict[str, Any] = {"model": pipe.name, "weights": pipe.fingerprint}
    found |= {"commit": pipe.model.commit} if pipe.model.commit else {}
    config = pipe.model.config
    if config.text is not None or picture.caption:
        found["prompt"] = picture.caption
    classes = pipe.classes(settings)
    if classes.num_classes:
        found["label"] = picture.label
        if classes.class_names and picture.label is not None:
            found["class"] = classes.class_names[picture.label]
    found |= {"seed": picture.seed, "sampler": settings.sampler, "respacing": settings.respacing}
    found |= {"spacing": settings.spaced} if settings.spaced != "uniform" else {}
    found |= {"steps": pipe.steps(settings), "eta": settings.eta}
    found |= {"temperature": settings.temperature} if settings.temperature != 1.0 else {}
    found |= guidance_of(settings, len(pipe.model.process))
    if settings.strength < 1.0:
        found |= {"strength": settings.strength}
    found |= {"deep_every": settings.deep_every} if settings.deep_every > 1 else {}
    if settings.resamplings > 1:
        found |= {"jump": settings.jump, "resamplings": settings.resamplings}
    guides = pipe.guides.fingerprints(settings.options, read_by(settings.terms))
    found |= {"guides": guides} if guides else {}
    found |= {"vocab": pipe.vocab} if pipe.vocab else {}
    found |= {"dtype": str(pipe.dtype).removeprefix("torch.")}
    found |= {"compile": True} if pipe.compiles else {}
    assert pipe.call_size is not None
    found |= {"call_size": pipe.call_size, "place": place % pipe.call_size}
    return found | environment(pipe.device)
