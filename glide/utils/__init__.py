"""Utilities without any diffusion in them: files, images, numbers, command lines, messages."""
