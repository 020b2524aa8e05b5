"""Draw a set of pictures with a model into a folder; a run that was interrupted goes on with the next picture.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from glide.networks.fixed_batch import batches
from glide.networks.image_request import ImageRequest
from glide.utils.errors import InputError
from glide.utils.images import read_recipe, save_png, to_uint8
from glide.utils.progress import progress
from toolkit.evaluation.picture_sets import PictureSet, StoredPictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe import recipe_of
from toolkit.pipelines.settings import SamplingConfig


class DrawnPictures(StoredPictures):
    """The pictures of a model in a folder, with the captions and classes that they were drawn of."""

    def __init__(
        self, name: str, folder: Path, requests: Sequence[ImageRequest], class_names: Sequence[str]
    ) -> None:
        super().__init__(str(folder))
        self.name, self._requests, self._classes = name, requests, class_names

    @property
    def class_names(self) -> Sequence[str]:  # type: ignore[override]
        return self._classes

    def caption(self, place: int) -> str | None:
        return self._requests[place].caption or None

    def label(self, place: int) -> int | None:
        return self._requests[place].label


def requests_of(pipe: Pipeline, data: PictureSet, count: int, seed: int) -> list[ImageRequest]:
    """Requests for pictures of the captions or classes of the data, one picture each and from the first again.

    Picture i has the seed `seed + i`. InputError for data without the captions or classes that the model draws.
    """
    config, found = pipe.model.config, []
    places = [i % len(data) for i in range(count)]
    for i, place in enumerate(places):
        caption, label = "", None
        if config.reads_captions:
            text = data.caption(place)
            if text is None:
                raise InputError(
                    f"got {data.name} without a caption for {data.name_of(place)}, expected one for each picture that "
                    f"{pipe.name} draws: give captioned pictures"
                )
            caption = text
        elif config.num_classes:
            label = data.label(place)
            if label is None or label >= config.num_classes:
                raise InputError(
                    f"got {data.name} without the {config.num_classes} classes of {pipe.name}, expected a folder for "
                    "each: give the data that the model was trained on"
                )
        found.append(ImageRequest(seed + i, caption, label))
    return found


def draw_into(
    folder: Path, pipe: Pipeline, requests: Sequence[ImageRequest], settings: SamplingConfig, batch_size: int
) -> DrawnPictures:
    """Draw the N pictures as 000000.png, ...; those that are there, with the same recipe, are kept.

    InputError for what cannot be drawn, and a folder that cannot be written.
    """
    run, settings = pipe.for_run(len(requests)), settings.settled(pipe.model.config)
    assert run.call_size is not None
    wanted = [folder / f"{i:06d}.png" for i in range(len(requests))]
    for old in set(folder.glob("[0-9]" * 6 + ".png")) - set(wanted):
        old.unlink()  # of a run with more pictures
    with progress(total=len(requests), desc="drawing", unit="picture") as bar:
        for start, batch in batches(requests, batch_size, run.call_size):
            recipes = [recipe_of(run.context, one, settings, start + i) for i, one in enumerate(batch)]
            paths = wanted[start : start + len(batch)]
            if not all(_drawn(path, recipe) for path, recipe in zip(paths, recipes, strict=True)):
                for step in run.draw(batch, settings, place=start):
                    last = step
                for path, picture, recipe in zip(paths, to_uint8(last.x), recipes, strict=True):
                    save_png(path, picture, recipe)
            bar.update(len(batch))
    return DrawnPictures(pipe.name, folder, requests, pipe.model.config.class_names)


def _drawn(path: Path, recipe: dict[str, object]) -> bool:
    """True for a picture that is there, drawn by the same recipe."""
    try:
        return path.is_file() and read_recipe(path) == recipe
    except InputError:
        return False
