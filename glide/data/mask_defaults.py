"""Defaults of inpainting masks, for flags too. Imports nothing."""

EVERYTHING = 0.25
"""Share of inpainting examples without known pixels."""
