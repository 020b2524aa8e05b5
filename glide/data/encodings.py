"""Encodings of captions by a frozen text encoder, kept on disk: one file for each caption, encoder and context.

They are float32, so that a training with them is that without, to the rounding of float32: a batch of captions is
summed in another order than the same captions in other batches. Only real tokens are kept: 12 tokens that are 768 wide
take 37 kB.

Shape letters: N captions, L tokens (the context), l real tokens of one caption, D width of the encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from glide.networks.frozen_text_config import FrozenTextConfig
from glide.networks.frozen_text_encoder import FrozenText
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.utils.filesystem import write_bytes

AT_ONCE = 64
"""Captions that are encoded in one call."""


class TruncationNotice:
    """Warns of the first caption that is longer than the context; with real captions it can be every second one."""

    def __init__(self) -> None:
        self._pending = True

    def look(self, tokenizer: Tokenizer, captions: Sequence[str], mask: Tensor) -> None:
        """captions: N, mask [N,L]: a caption may have been truncated where all tokens are real."""
        if not self._pending:
            return
        full = [captions[row] for row in mask.all(dim=1).nonzero().flatten().tolist()]
        long = next((caption for caption in full if not tokenizer.fits(caption)), None)
        if long is not None and self._pending:
            self._pending = False
            tokenizer.encode([long])


class Encodings:
    """The encodings in a folder, which any number of processes may read and write at once.

    A file is written whole or not at all, and one that is damaged counts as missing.
    """

    def __init__(self, folder: Path, config: FrozenTextConfig) -> None:
        """config: of the encoder, whose fingerprint and context are part of each file's place."""
        self.folder = folder / f"{config.fingerprint}-{config.context}"
        self.width, self.context, self.end = config.encoder_width, config.context, config.kind == "clip"
        self.notice = TruncationNotice()
        self._null: dict[str, Tensor] | None = None

    def read(self, captions: Sequence[str]) -> dict[str, Tensor] | None:
        """encoded [N,L,D], mask [N,L] and, of a CLIP, end [N,D], as `FrozenText.encode`, on the CPU; None if one is
        missing.
        """
        rows = []
        for caption in captions:
            row = self._row(caption)
            if row is None:
                return None
            rows.append(row)
        return self._batch(rows)

    def encode(self, model: Model, captions: Sequence[str]) -> dict[str, Tensor]:
        """As `read`; the model's encoder encodes those that are missing. InputError if they cannot be written."""
        found = {caption: self._row(caption) for caption in dict.fromkeys(captions)}
        missing = [caption for caption, row in found.items() if row is None]
        for start in range(0, len(missing), AT_ONCE):
            part = missing[start : start + AT_ONCE]
            for caption, made in zip(part, self._made(model, part), strict=True):
                write_bytes(self._path(caption), save(made))
                found[caption] = made
        return self._batch([row for caption in captions if (row := found[caption]) is not None])

    def null(self, model: Model) -> dict[str, Tensor]:
        """The encoding of the null caption, one row on the model's device."""
        if self._null is None:
            self._null = {name: part.to(model.device) for name, part in self.encode(model, [""]).items()}
        return self._null

    def _made(self, model: Model, captions: Sequence[str]) -> list[dict[str, Tensor]]:
        text, tokenizer = model.text, model.tokenizer
        assert isinstance(text, FrozenText) and text.encoder is not None and tokenizer is not None
        tokens, mask = tokenizer.encode(captions, warn=False)
        self.notice.look(tokenizer, captions, mask)
        encoded, end = text.encoder.encode(tokens.to(model.device), mask.to(model.device))
        rows = []
        for i, own in enumerate(mask):
            row = {"encoded": encoded[i, : int(own.sum())].cpu().contiguous()}  # [l,D]
            rows.append(row if end is None else {**row, "end": end[i].cpu().contiguous()})
        return rows

    def _path(self, caption: str) -> Path:
        name = hashlib.sha256(caption.encode("utf-8", "surrogatepass")).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"

    def _row(self, caption: str) -> dict[str, Tensor] | None:
        path = self._path(caption)
        if not path.is_file():
            return None
        try:
            row = load_file(path)
        except (OSError, SafetensorError):
            return None
        encoded, end = row.get("encoded"), row.get("end")
        whole = encoded is not None and encoded.ndim == 2 and encoded.shape[1] == self.width
        fits = (
            whole and encoded is not None and len(encoded) <= self.context and (end is not None) == self.end
        )
        return row if fits else None

    def _batch(self, rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        lengths = torch.tensor([len(row["encoded"]) for row in rows])  # [N]
        found = {"mask": torch.arange(self.context) < lengths[:, None]}
        padded = [F.pad(row["encoded"], (0, 0, 0, self.context - len(row["encoded"]))) for row in rows]
        found["encoded"] = torch.stack(padded)
        if self.end:
            found["end"] = torch.stack([row["end"] for row in rows])
        return found
