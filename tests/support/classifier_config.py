"""Shared by tests: TINY."""

TINY = {
    "cls": "EncoderUNetModel",
    "image_size": 8,
    "model_channels": 32,
    "out_channels": 5,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
    "num_head_channels": 16,
}
