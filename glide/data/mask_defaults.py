"""Defaults of masks that flags show too. Imports nothing."""

EVERYTHING = 0.25
"""Share of examples for inpainting of which nothing is known."""
