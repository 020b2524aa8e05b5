"""Share a trained model: copy its files, draw samples, write the card, and push all of it or zip it."""

from __future__ import annotations

import io
import math
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import safe_open

from glide.checkpoints.model_folder import WEIGHTS, read_config
from glide.checkpoints.model_parts import PARTS
from glide.checkpoints.names import EMBEDDED, embedded_models, resolve
from glide.checkpoints.shared_folder import (
    ATTRIBUTION,
    README,
    check_free,
    copy_model,
    model_of_run,
    write_zip,
)
from glide.networks.config import ModelConfig
from glide.networks.picture_sizes import default_size
from glide.utils.atomic_write import write_text
from glide.utils.errors import InputError
from glide.utils.hub_upload import check_before_upload, upload
from glide.utils.images import read_recipe, save_png
from glide.utils.json_files import read_lines
from glide.utils.printable import say
from guidance.classifier.load import EMBEDDED as GUIDES
from toolkit.commands.sample import sample
from toolkit.commands.sample_flags import CAPTIONS, Sample
from toolkit.commands.share_flags import Share
from toolkit.commands.train_auto_state import NAME as AUTO
from toolkit.commands.upscale_flags import StageArgs
from toolkit.evaluation.own_pictures import SCALE
from toolkit.evaluation.recorded_figures import recorded_figures, training_seconds
from toolkit.pipelines.model_card import CardFacts, Drawn, model_card
from upsampler.presets import EMBEDDED as UPSAMPLERS

NONE = "none"
LOG = "log.jsonl"
SAMPLES = "samples"
"""Folder of the samples."""
PLACES = {"upsampler": (UPSAMPLERS,), "clip": (GUIDES,), "classifier": (GUIDES,), "weak": ()}
KINDS = {"upsampler": "diffusion", "clip": "clip", "classifier": "classifier", "weak": "diffusion"}


@dataclass(frozen=True)
class Source:
    """The model that is shared, and where it was trained."""

    folder: Path
    run: Path
    name: str
    """By which others load it."""

    @property
    def auto(self) -> bool:
        """True for a model of an automatic training."""
        return (self.run / AUTO).is_file()


def share(args: Share) -> None:
    """Do all of it. InputError for a run without a model, and a target that cannot be used; before the drawing."""
    source = _source(args)
    parts = _parts(args, source.folder)
    if args.zip is not None:
        check_free(args.zip, args.overwrite)
    else:
        check_before_upload(str(args.to), args.overwrite)
    with tempfile.TemporaryDirectory(prefix="glide-share-") as place:
        folder = Path(place) / "model"
        record = copy_model(source.folder, folder, {part: path for part, (_, path) in parts.items()})
        attribution = _attribution(folder, record)
        drawn, large, by = _draw(args, source, folder, record)
        facts = CardFacts(
            source.name,
            record,
            licence=args.licence,
            about=args.about,
            parameters=_parameters(folder / WEIGHTS),
            drawn=drawn,
            large=large,
            scale=_scale(args, source, ModelConfig.from_dict(record["model"])) if drawn else None,
            drawn_by=by,
            parts={part: name for part, (name, _) in parts.items()},
            attribution=attribution,
        )
        write_text(folder / README, model_card(_measured(args, source, facts)))
        if args.zip is not None:
            write_zip(folder, args.zip, args.overwrite)
            say(f"model: {args.zip.resolve()}", result=True)
        else:
            message = f"Share the model of {source.run.name}"
            address, _ = upload(
                folder, str(args.to), private=args.private or None, message=message, overwrite=args.overwrite
            )
            say(f"model: {address}", result=True)
    if args.licence is None:
        say("its card says that the licence is unknown: --licence NAME names one")


def _source(args: Share) -> Source:
    """The model of --run: of a folder, or an embedded one. InputError where there is none."""
    name = args.to or Path(str(args.zip)).name
    for places in ((), (UPSAMPLERS,), (GUIDES,)):
        if args.run in embedded_models(*places) and not Path(args.run).exists():
            folder = resolve(args.run, *places)
            return Source(folder, folder, name)
    folder = model_of_run(args.run)
    return Source(folder, Path(args.run).expanduser(), name)


def _parts(args: Share, folder: Path) -> dict[str, tuple[str, Path]]:
    """Name and folder of each further network. InputError for one of another kind."""
    found = {}
    for part in PARTS:
        name = getattr(args, part)
        beside = folder / part
        if name is None and part == "upsampler" and beside.is_dir():
            name = str(beside)
        if name is None or name == NONE:
            continue
        path = resolve(name, *PLACES[part])
        path = path if path.is_dir() else Path(name)
        record = read_config(path, KINDS[part])
        if part == "upsampler" and not record["model"].get("low_res"):
            raise InputError(
                f"got the upsampler {name}, which draws and does not enlarge, expected an upsampler: give another"
            )
        found[part] = (Path(name).name, path)
    return found


def _attribution(folder: Path, record: Mapping[str, Any]) -> bool:
    """Put the attribution beside the model that its own, or the one that it began with, asks for."""
    training, names = record.get("training"), []
    while isinstance(training, Mapping):
        names.append(str(training.get("init")))
        training = training.get("init_training")
    for name in names:
        asked = EMBEDDED / name / ATTRIBUTION
        if name in embedded_models() and asked.is_file() and not (folder / ATTRIBUTION).is_file():
            shutil.copyfile(asked, folder / ATTRIBUTION)
    return (folder / ATTRIBUTION).is_file()


def _draw(
    args: Share, source: Source, folder: Path, record: Mapping[str, Any]
) -> tuple[tuple[Drawn, ...], Drawn | None, str]:
    """Draw the samples with the model as it is shared; returns them, the first one enlarged, and their settings."""
    nothing: tuple[tuple[Drawn, ...], Drawn | None, str] = ((), None, "")
    if not args.samples or record["kind"] != "diffusion":
        return nothing
    config = ModelConfig.from_dict(record["model"])
    if config.low_res or config.conditioned_on_pictures:
        say("no samples on the card: the model draws from pictures")
        return nothing
    asked = _asked(args, config, record)
    scale = _scale(args, source, config)
    wanted = Sample(
        model=str(folder),
        scale=scale,
        steps=args.steps,
        seed=args.seed,
        out=str(folder / SAMPLES),
        device=args.device,
        dtype=args.dtype,
        **asked,
    )
    drawn = [_as_shared(path, source.name) for path in _quietly(wanted)]
    enlarged = None
    if (folder / "upsampler").is_dir():
        first = replace(wanted, **{key: one[:1] for key, one in asked.items() if key != "num_samples"})
        size = str(_factor(folder / "upsampler") * default_size(config)[0])
        (large,) = _quietly(replace(first, num_samples=1, second=StageArgs(size=size)))
        for small in large.parent.glob(f"{large.stem}-*.png"):
            small.unlink()
        enlarged = _as_shared(large, source.name)
    recipe = read_recipe(folder / drawn[0].file)
    guided = recipe.get("guidance") not in (None, "none") and recipe.get("scale")
    by = f", guidance {recipe['guidance']} {recipe['scale']:g}" if guided else ""
    return tuple(drawn), enlarged, f"Samples, not chosen: {recipe['steps']} steps of {recipe['sampler']}{by}."


def _scale(args: Share, source: Source, config: ModelConfig) -> float | None:
    """The scale of guidance; None is the default. A model of few pictures is sure of its captions."""
    guided = config.reads_captions or config.null_class
    return SCALE if args.scale is None and source.auto and guided else args.scale


def _quietly(wanted: Sample) -> list[Path]:
    """Draw and write; where the pictures are for the moment is said to nobody."""
    with redirect_stdout(io.StringIO()):
        return sample(wanted, None)


def _asked(args: Share, config: ModelConfig, record: Mapping[str, Any]) -> dict[str, Any]:
    """Captions, classes or number of the samples, as flags of `sample`. InputError where captions are missing."""
    if config.reads_captions:
        data = str(
            (record.get("training") or {}).get("data") or (record.get("training") or {}).get("command")
        )
        captions = args.prompt or (
            CAPTIONS if "shapes" in data.split(":")[0] or "--data shapes" in data else ()
        )
        if not captions:
            raise InputError(
                "got no captions for the samples of a model that reads some, expected one or more: give --prompt "
                '"a red apple", or --samples 0 for a card without pictures'
            )
        return {"prompt": tuple(islice(cycle(captions), max(args.samples, len(captions))))}
    if args.prompt:
        raise InputError("got --prompt for a model that reads no captions, expected none: leave it out")
    if config.num_classes:
        return {"label": tuple(str(i % config.num_classes) for i in range(args.samples))}
    return {"num_samples": args.samples}


def _as_shared(path: Path, name: str) -> Drawn:
    """Write a sample again, with the name by which others load the model in place of the folder it is in here."""
    recipe = read_recipe(path)
    recipe["model"] = name
    if isinstance(recipe.get("upsampler"), dict):
        recipe["upsampler"]["model"] = name
    with Image.open(path) as picture:
        picture.load()
        pixels = picture.copy()
    pixels.info.clear()
    save_png(path, pixels, recipe)
    words = recipe.get("prompt") or recipe.get("class") or recipe.get("label")
    return Drawn(f"{path.parent.name}/{path.name}", "" if words is None else str(words))


def _factor(upsampler: Path) -> int:
    return ModelConfig.from_dict(read_config(upsampler)["model"]).scale


def _parameters(weights: Path) -> int:
    with safe_open(weights, framework="pt") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118


def _measured(args: Share, source: Source, facts: CardFacts) -> CardFacts:
    """The facts with figures, and with the time of the training."""
    found = recorded_figures(source.run, args.figures)
    places = (source.run, source.run / "base")
    log = next((place / LOG for place in places if (place / LOG).is_file()), None)
    batch = (facts.training.get("train") or {}).get("batch_size")
    return replace(
        facts,
        figures=found.figures,
        copies=found.copies,
        judged=found.judged,
        pictures=found.pictures,
        seconds=None if log is None else training_seconds(read_lines(log, step=int), batch),
    )
