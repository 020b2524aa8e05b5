"""Small random image encoders of transformers, as folders: for tests of frozen image encoders."""

import json
from pathlib import Path
from typing import Any

import torch

SIZES = {"hidden_size": 16, "num_hidden_layers": 5, "num_attention_heads": 2, "patch_size": 4}


def write_image_encoder(folder: Path, kind: str, seed: int = 0, width: int = 12) -> Path:
    """A folder with the weights and configuration of a random encoder, as transformers write it.

    kind: clip (both towers), clip_vision_model, dinov2. width: of its embeddings; for dinov2 a multiple of 2.
    """
    import transformers as t

    torch.manual_seed(seed)
    network: Any
    vision: dict[str, Any] = {**SIZES, "image_size": 16, "intermediate_size": 32, "projection_dim": width}
    if kind == "clip":
        text = {
            **SIZES,
            "vocab_size": 20,
            "max_position_embeddings": 8,
            "intermediate_size": 32,
            "patch_size": None,
        }
        network = t.CLIPModel(
            t.CLIPConfig(
                text_config={name: value for name, value in text.items() if value is not None},
                vision_config=vision,
                projection_dim=width,
            )
        )
    elif kind == "clip_vision_model":
        network = t.CLIPVisionModelWithProjection(t.CLIPVisionConfig(**vision))
    else:
        network = t.Dinov2Model(t.Dinov2Config(**{**SIZES, "hidden_size": width}, image_size=24))
    with torch.no_grad():  # nothing is small or zero, so that every weight counts
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    network.save_pretrained(folder)
    if kind == "dinov2":
        picture = {"crop_size": {"height": 16, "width": 16}, "image_mean": [0.4, 0.5, 0.6]}
        (folder / "preprocessor_config.json").write_text(
            json.dumps({**picture, "image_std": [0.2, 0.3, 0.4]})
        )
    return folder
