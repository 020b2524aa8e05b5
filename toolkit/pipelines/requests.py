"""The requests of a pipeline's call: captions, classes and seeds, one for each picture.

Shape letters: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from glide.networks.image_request import ImageRequest
from glide.networks.picture_sizes import default_size
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.memory import BYTES_PER_RECORD, check_memory
from glide.utils.numbers import shown_number, whole
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.settings import SamplingConfig


def requests(
    pipe: BasePipeline,
    prompt: str | Sequence[str] | None,
    label: str | int | Sequence[str | int] | None,
    settings: SamplingConfig,
    each: int,
    seed: int | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
) -> list[ImageRequest]:
    """N requests: `each` of every prompt or label, those of one prompt next to each other.

    InputError for prompts and labels that do not fit the model or each other, and for more pictures than memory holds.
    """
    subjects = _subjects(pipe, prompt, label, settings)
    each = whole(each, "num_images_per_prompt", 1, do="leave it out for 1")
    height, width = settings.size or default_size(pipe.model.config)
    check_memory(
        each * len(subjects) * (BYTES_PER_RECORD + 4 * 4 * 3 * height * width),
        f"num_images_per_prompt {each}",
        "draw fewer at a time",
    )
    subjects = [subject for subject in subjects for _ in range(each)]
    seeds = find_seeds(len(subjects), seed, generator)
    return [ImageRequest(number, *subject) for number, subject in zip(seeds, subjects, strict=True)]


def _subjects(
    pipe: BasePipeline,
    prompt: str | Sequence[str] | None,
    label: str | int | Sequence[str | int] | None,
    settings: SamplingConfig,
) -> list[tuple[str, int | None]]:
    """Captions and class numbers, one pair for each picture."""
    prompts = [prompt] if isinstance(prompt, str) else several(prompt, "prompt", "a text or a list of texts")
    for one in prompts:
        if not isinstance(one, str):
            raise InputError(
                f"got the prompt {shown_number(one)} ({type(one).__name__}), expected a text or a list of texts: "
                "describe the picture in words"
            )
    is_list = not isinstance(label, str) and hasattr(label, "__iter__")
    anything: Any = label
    given: list[Any] = list(anything) if is_list else [] if anything is None else [anything]
    labels = [one if isinstance(one, str) else whole(one, "the class") for one in given]
    config = pipe.model.config
    # a label without classes in the model is the classifier's, and says what to draw without a caption
    of_guide = bool(labels) and not config.num_classes
    if config.reads_captions and not prompts and not of_guide:
        raise InputError("got no prompt for a model that draws captions, expected one: give a prompt")
    classes = pipe.classes(settings)
    numbers: list[int | None] = [class_number(classes, name) for name in labels]
    if prompts and numbers and len(prompts) != len(numbers):
        raise InputError(f"got {len(prompts)} prompts and {len(numbers)} labels, expected as many of each")
    count = max(len(prompts), len(numbers), 1)
    return list(zip(prompts or [""] * count, numbers or [None] * count, strict=True))


def several(values: Any, name: str, expected: str) -> list[Any]:
    """A list of what is given by any sequence. InputError for what is none."""
    if values is None:
        return []
    if isinstance(values, bytes | dict) or not hasattr(values, "__iter__"):
        raise InputError(f"got the {name} {shown_number(values)}, expected {expected}: give one")
    return list(values)


def find_seeds(
    count: int, seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None
) -> list[int]:
    """One seed for each of `count` pictures: counted from `seed`, or drawn from one generator, or one from each.

    Without either they come from torch's global generator. InputError for both, or another number of generators.
    """
    if seed is not None:
        if generator is not None:
            raise InputError("got a seed and a generator, expected one of them: leave one out")
        first = whole(seed, "the seed", 0, 2**63 - count, do="give a number in that range")
        return [first + i for i in range(count)]
    if generator is None or isinstance(generator, torch.Generator):
        return [_draw_seed(generator) for _ in range(count)]
    if not isinstance(generator, list | tuple) or not all(isinstance(g, torch.Generator) for g in generator):
        raise InputError(
            f"got {type(generator).__name__} as generator, expected a torch.Generator or a list of them: write "
            "torch.Generator().manual_seed(0), or give a seed"
        )
    if len(generator) != count:
        raise InputError(f"got {len(generator)} generators for {count} pictures, expected one for each")
    return [_draw_seed(one) for one in generator]


def _draw_seed(generator: torch.Generator | None) -> int:
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(2**53, (), generator=generator, device=device))
