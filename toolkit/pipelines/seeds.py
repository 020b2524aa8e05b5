"""The seeds of a run."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from glide.utils.errors import InputError
from glide.utils.numbers import whole


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
