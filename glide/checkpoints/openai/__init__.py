"""OpenAI's published GLIDE, ADM and noised CLIP checkpoints, converted at the border."""
