"""Pipelines: a model, its guidance and a sampler, joined into text-to-image, inpainting, upscaling and inversion."""
