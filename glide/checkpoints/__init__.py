"""Checkpoints: model folders, loading by name, published formats."""
