"""The place of a U-Net's inner head: a second output, from a middle level of the decoder (2512.24176).

Imports no torch, so that flags may use it.
"""

from __future__ import annotations

from glide.utils.config_check import need

INNER_WEIGHT = 0.5
"""Default weight of its loss beside that of the model."""


def middle_factor(levels: int) -> int:
    """The downsampling factor of the middle one of so many levels; 0 where there is no level below the first."""
    return 2 ** (levels // 2) if levels > 1 else 0


def tapped_block(factor: int, levels: int, num_res_blocks: int) -> int:
    """Index of the decoder block whose output the head reads: the last one of the level of that factor.

    It doubles the resolution, so that the head reads the grid of half the factor.
    """
    return (levels - factor.bit_length() + 1) * (num_res_blocks + 1) - 1


def check_inner_head(factor: int, levels: int) -> None:
    """InputError for a factor that no level below the first has; 0 is no head."""
    factors = [2**level for level in range(1, levels)]
    if factors:
        known = f"expected 0 for none or one of {', '.join(map(str, factors))}"
    else:
        known = "expected 0, as there is no level below the first"
    need(factor == 0 or factor in factors, f"got inner_head {factor}, {known}")
