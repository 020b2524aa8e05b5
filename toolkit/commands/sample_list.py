"""A long list of captions for the sample command: its models and captions, loaded once, and its parts."""

from pathlib import Path

from glide.utils.errors import InputError
from glide.utils.parts import Part
from guidance.registry import named
from toolkit.commands.prompt_files import read_rows
from toolkit.commands.sample_flags import Sample
from toolkit.commands.sample_models import load_models
from toolkit.commands.sample_rows import PER_SHARD, Drawing, draw_part


def draw_list_part(args: Sample, drawing: Drawing, part: Part) -> int:
    """Draw and write what is not there of a part of the list; returns how many pictures were drawn."""
    return draw_part(drawing, part, Path(args.to_shards or args.out), args.to_shards is not None, PER_SHARD)


def load_drawing(args: Sample) -> Drawing:
    """Load the models and the captions of --prompts-file. InputError for what cannot be drawn."""
    assert args.prompts_file is not None
    rows = read_rows(args.prompts_file)
    ready = load_models(args, None)
    reads = ready.pipe.model.config.reads_captions or any(
        named(spec.name).captions for spec in ready.settings.specs
    )
    if not reads:
        raise InputError(f"got captions for {args.model}, a model without text, expected one that reads them")
    drawing = Drawing(
        ready.pipe.for_run(len(rows) * args.num_samples),
        ready.settings,
        ready.upscaler,
        rows,
        args.num_samples,
        args.seed,
        ready.given,
        ready.entries,
    )
    if ready.upscaler is not None:
        ready.upscaler.check([drawing.request(0)])
    return drawing
