"""Tiny models in the place of the published ones: made files under their names, on a local server."""

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
import torch
from tokenizers import pre_tokenizers
from torch import Tensor

from glide.checkpoints import download as download
from glide.checkpoints import fetch_published
from glide.checkpoints.published import MODELS, PublishedFile
from guidance.classifier import openai as classifier_openai
from guidance.clip import openai as clip_openai
from guidance.clip.openai import from_state_dicts
from support.file_server import FileServer, Served, file_server
from support.openai_nets import TINY, golden, tiny_state

MERGES = 3
"""Merges of the made CLIP vocabulary."""


def as_file(state: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def glide_state(kind: str) -> dict[str, Tensor]:
    """The state dict of a golden GLIDE network, with room for GLIDE's padding token."""
    state = dict(golden(kind)[1])
    state["token_embedding.weight"] = torch.zeros(50257, 64, dtype=torch.float16)
    return state


def glide_options(kind: str) -> dict[str, Any]:
    return golden(kind)[0] | {"n_vocab": 50257}


def clip_states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts of the golden CLIP, with room for the made vocabulary."""
    _, state, _ = golden("noised_clip")
    image, text = (
        {name.removeprefix(part): value for name, value in state.items() if name.startswith(part)}
        for part in ("image.", "text.")
    )
    words = text["blocks.input.w_voc"]
    text["blocks.input.w_voc"] = torch.cat([words, words[:100]])
    return image, text


def tiny_classifier() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options and state dict of a classifier for the tiny diffusion model."""
    options = golden("adm_classifier")[0] | {"out_channels": TINY["num_classes"]}
    generator = torch.Generator().manual_seed(0)
    sources = classifier_openai.mapping(options).values()
    return options, {source.name: 0.1 * torch.randn(source.shape, generator=generator) for source in sources}


def glide_vocabulary() -> tuple[bytes, bytes]:
    """encoder.json and vocab.bpe of a few tokens."""
    return json.dumps({"a": 0, "b": 1, "ab": 2}).encode(), b"#version: 0.2\na b\n"


def clip_vocabulary() -> bytes:
    """Three merges and the head of CLIP's file of merges, and one line too many, as that has."""
    return gzip.compress("\n".join(["head", "a b", "ab c</w>", "# d", "x y"]).encode(), mtime=0)


@dataclass
class Made:
    """The server of the made files, and how they are registered."""

    server: FileServer
    patch: pytest.MonkeyPatch

    def register(self, name: str, contents: Mapping[str, bytes], options: Mapping[str, Any]) -> None:
        """Serve these files as those of the published model of that name, weights first, then its vocabulary."""
        files = []
        for file, content in contents.items():
            self.server.files.setdefault(f"/{file}", Served(content))
            files.append(PublishedFile(f"{self.server.url}/{file}"))
        count = len(MODELS[name].weights)
        self.patch.setitem(
            MODELS,
            name,
            replace(
                MODELS[name],
                weights=tuple(files[:count]),
                vocabulary=tuple(files[count:]),
                options=options,
                parameters=100_000,
            ),
        )

    def adm(self, name: str = "adm-64") -> None:
        self.register(name, {MODELS[name].weights[0].name: as_file(tiny_state())}, TINY)

    def glide(self, name: str = "glide", kind: str = "glide_base") -> None:
        encoder, merges = glide_vocabulary()
        file = MODELS[name].weights[0].name
        contents = {file: as_file(glide_state(kind)), "encoder.json": encoder, "vocab.bpe": merges}
        self.register(name, contents, glide_options(kind))

    def classifier(self, name: str = "classifier-64") -> None:
        options, state = tiny_classifier()
        self.register(name, {MODELS[name].weights[0].name: as_file(state)}, options)

    def clip(self) -> None:
        names = [file.name for file in MODELS["glide-clip"].files]
        contents = [*map(as_file, clip_states()), clip_vocabulary()]
        self.register("glide-clip", dict(zip(names, contents, strict=True)), {})
        self.patch.setattr(fetch_published, "MERGES_OF_CLIP", MERGES)
        self.patch.setattr(clip_openai, "from_state_dicts", partial(from_state_dicts, head_channels=16))


@contextmanager
def made_models(patch: pytest.MonkeyPatch, cache: object) -> Iterator[Made]:
    """A server without files, and an empty cache."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        patch.delenv(variable, raising=False)
    patch.delenv("HF_HUB_OFFLINE", raising=False)
    patch.setenv("GLIDE_CACHE", str(cache))
    patch.setattr(download, "WAIT", 0.0)
    with file_server({}) as server:
        yield Made(server, patch)


def byte_letters() -> list[str]:
    """The letters of the 256 bytes, in any order."""
    return list(pre_tokenizers.ByteLevel.alphabet())
