"""Table of the models that OpenAI published: names, files and their lengths, options, licences. Imports no torch.

Addresses are those of the original releases (openai/glide-text2im, openai/guided-diffusion). A length or a hash stands
here only where a public source states it; otherwise the length is the server's, checked when the file is there.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from glide.checkpoints.openai.releases import CLASSIFIERS, PUBLISHED

_HOST = "https://openaipublic.blob.core.windows.net"
_ADM, _GLIDE = f"{_HOST}/diffusion/jul-2021", f"{_HOST}/diffusion/dec-2021"
_GLIDE_REPOSITORY = "https://github.com/openai/glide-text2im"
_ADM_REPOSITORY = "https://github.com/openai/guided-diffusion"
_GLIDE_LICENCE = (
    "MIT (openai/glide-text2im); the model card: for research, not recommended for commercial use"
)
_ADM_LICENCE = (
    "MIT (openai/guided-diffusion); the model card: for research only, not for commercial deployment"
)
FLOAT32 = 4  # bytes of a number

Kind = Literal["diffusion", "classifier", "clip"]
KINDS: dict[Kind, str] = {
    "diffusion": "diffusion model",
    "classifier": "noisy classifier",
    "clip": "noisy CLIP",
}


@dataclass(frozen=True)
class PublishedFile:
    """One published file."""

    url: str
    length: int | None = None
    """Its bytes; None: no source states them, so the server's length is checked."""
    sha256: str | None = None
    """None: no source states it."""

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PublishedModel:
    """One published model, by the name that stands for its files."""

    name: str
    kind: Kind
    words: str
    """One line about it."""
    weights: tuple[PublishedFile, ...]
    parameters: int
    """Numbers in its tensors."""
    options: Mapping[str, Any]
    """In the originals' names; empty for the CLIP, whose sizes follow from its tensors."""
    licence: str
    repository: str
    vocabulary: tuple[PublishedFile, ...] = ()
    """The files of the vocabulary of its captions."""
    upsampler: str | None = None
    """The name of the upsampler that was published for it."""

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        return self.weights + self.vocabulary

    @property
    def float32_bytes(self) -> int:
        """Bytes of its weights in memory, and once converted."""
        return FLOAT32 * self.parameters


# GPT-2's vocabulary; both files are those in openai/glide-text2im, commit 69b5307, and hashed in openai/tiktoken
_GLIDE_VOCABULARY = (
    PublishedFile(
        f"{_HOST}/gpt-2/encodings/main/encoder.json",
        1_042_301,
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    ),
    PublishedFile(
        f"{_HOST}/gpt-2/encodings/main/vocab.bpe",
        456_318,
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    ),
)
# length and hash of the file in the same commit
_CLIP_VOCABULARY = (
    PublishedFile(
        "https://raw.githubusercontent.com/openai/glide-text2im/main/glide_text2im/tokenizer/bpe_simple_vocab_16e6.txt.gz",
        1_356_917,
        "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
    ),
)
# as public repositories state them that use the files: the lengths from the server's Content-Length
_STATED: dict[str, tuple[int, str | None]] = {
    "256x256_diffusion.pt": (2_215_479_544, None),
    "256x256_diffusion_uncond.pt": (
        2_211_383_297,
        "a37c32fffd316cd494cf3f35b339936debdc1576dad13fe57c42399a5dbc78b1",
    ),
}


def _glide(name: str, file: str, parameters: int, words: str, upsampler: str | None = None) -> PublishedModel:
    return PublishedModel(
        name=name,
        kind="diffusion",
        words=words,
        weights=(PublishedFile(f"{_GLIDE}/{file}"),),
        parameters=parameters,
        options=PUBLISHED[file],
        licence=_GLIDE_LICENCE,
        repository=_GLIDE_REPOSITORY,
        vocabulary=_GLIDE_VOCABULARY,
        upsampler=upsampler,
    )


def _adm(name: str, file: str, parameters: int, words: str, upsampler: str | None = None) -> PublishedModel:
    diffusion = file in PUBLISHED
    return PublishedModel(
        name=name,
        kind="diffusion" if diffusion else "classifier",
        words=words,
        weights=(PublishedFile(f"{_ADM}/{file}", *_STATED.get(file, (None, None))),),
        parameters=parameters,
        options=PUBLISHED[file] if diffusion else CLASSIFIERS[file],
        licence=_ADM_LICENCE,
        repository=_ADM_REPOSITORY,
        upsampler=upsampler,
    )


_TABLE = (
    _glide("glide", "base.pt", 385_030_726, "GLIDE (filtered), captions, 64 pixels", "glide-upsampler"),
    _glide("glide-upsampler", "upsample.pt", 398_361_286, "GLIDE's upsampler, 64 to 256 pixels"),
    _glide(
        "glide-inpaint",
        "base_inpaint.pt",
        385_037_638,
        "GLIDE (filtered) for inpainting, 64 pixels",
        "glide-inpaint-upsampler",
    ),
    _glide(
        "glide-inpaint-upsampler",
        "upsample_inpaint.pt",
        398_368_198,
        "GLIDE's upsampler for inpainting, 64 to 256 pixels",
    ),
    PublishedModel(
        name="glide-clip",
        kind="clip",
        words="GLIDE's noisy CLIP, 64 pixels",
        weights=(PublishedFile(f"{_GLIDE}/clip_image_enc.pt"), PublishedFile(f"{_GLIDE}/clip_text_enc.pt")),
        parameters=158_123_264,
        options={},
        licence=_GLIDE_LICENCE,
        repository=_GLIDE_REPOSITORY,
        vocabulary=_CLIP_VOCABULARY,
    ),
    _adm("adm-64", "64x64_diffusion.pt", 295_904_454, "ADM, ImageNet, 64 pixels", "adm-upsampler-256"),
    _adm("adm-128", "128x128_diffusion.pt", 421_529_606, "ADM, ImageNet, 128 pixels", "adm-upsampler-512"),
    _adm("adm-256", "256x256_diffusion.pt", 553_838_086, "ADM, ImageNet, 256 pixels"),
    _adm(
        "adm-256-uncond",
        "256x256_diffusion_uncond.pt",
        552_814_086,
        "ADM, ImageNet without classes, 256 pixels",
    ),
    _adm("adm-512", "512x512_diffusion.pt", 558_997_638, "ADM, ImageNet, 512 pixels"),
    _adm("adm-upsampler-256", "64_256_upsampler.pt", 311_795_910, "ADM's upsampler, 64 to 256 pixels"),
    _adm("adm-upsampler-512", "128_512_upsampler.pt", 308_835_270, "ADM's upsampler, 128 to 512 pixels"),
    _adm("classifier-64", "64x64_classifier.pt", 65_438_568, "ADM's noisy classifier, 64 pixels"),
    _adm("classifier-128", "128x128_classifier.pt", 42_568_040, "ADM's noisy classifier, 128 pixels"),
    _adm("classifier-256", "256x256_classifier.pt", 54_096_360, "ADM's noisy classifier, 256 pixels"),
    _adm("classifier-512", "512x512_classifier.pt", 54_448_360, "ADM's noisy classifier, 512 pixels"),
    _adm("lsun-bedroom", "lsun_bedroom.pt", 552_814_086, "ADM, LSUN bedrooms, 256 pixels"),
    _adm("lsun-cat", "lsun_cat.pt", 552_814_086, "ADM, LSUN cats, 256 pixels"),
    _adm("lsun-horse", "lsun_horse.pt", 552_814_086, "ADM, LSUN horses, 256 pixels"),
    _adm(
        "lsun-horse-nodropout",
        "lsun_horse_nodropout.pt",
        552_814_086,
        "ADM, LSUN horses, no dropout, 256 pixels",
    ),
)
MODELS: dict[str, PublishedModel] = {model.name: model for model in _TABLE}
"""By name."""


def name_of_file(file: str) -> str | None:
    """The name of the model that a published file belongs to, by the file's own name; None for another file."""
    found = (model.name for model in MODELS.values() if any(file == one.name for one in model.weights))
    return next(found, None)


def near(name: str) -> str | None:
    """The published name that is most like this one, if any is."""
    return next(iter(difflib.get_close_matches(name.lower(), MODELS, n=1)), None)
