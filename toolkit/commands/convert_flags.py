"""Turn a published OpenAI checkpoint (ADM or GLIDE, a noisy classifier or CLIP; .pt) into a model folder.

The options it was built with are known by its file's name:

    python scripts/convert.py 64x64_diffusion.pt --out models/adm-64
    python scripts/convert.py 64x64_classifier.pt --out models/adm-64-classifier

GLIDE's models read captions with GLIDE's vocabulary, a folder with vocab.json and merges.txt (or a hub id):

    python scripts/convert.py base.pt --vocab vocab/glide --out models/glide-base

GLIDE's noisy CLIP is a pair of files, in one folder, and reads captions with CLIP's vocabulary:

    python scripts/convert.py clip_image_enc.pt --vocab vocab/clip --out models/glide-clip

A file of another name needs options, in the original scripts' names, or the published file whose options it shares:

    python scripts/convert.py ema_0.9999.pt --options image_size=64,num_channels=128,learn_sigma=True --out models/mine
    python scripts/convert.py finetuned.pt --options base_inpaint.pt --vocab vocab/glide --out models/inpaint
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional


@dataclass(frozen=True)
class Convert:
    """The flags."""

    path: Annotated[str, Positional]
    """The checkpoint: a local path, or one that blobfile reads (gs://, az://, https:// of Azure)."""
    out: str
    """Folder to write: config.json, model.safetensors and, with --vocab, tokenizer.json."""
    options: str | None = None
    """key=value,key=value (commas in values are fine), JSON, or the name of a published file."""
    vocab: str | None = None
    """Folder or hub id of GLIDE's vocabulary; without it the model takes no captions."""
    overwrite: bool = False
    """Replace a model that is already in the folder."""
