"""Samplers: one file a paper or family, and their registry."""
