"""Upsamplers: the low-resolution planes, their training, and the cascade that joins a second model to the first.

The package itself imports nothing heavy; the modules are imported where they are used.
"""
