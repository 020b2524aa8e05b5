"""The networks that guide: weaker model, classifier and CLIP, loaded at their first use and cached.

The name of a model that brings a guide in its folder (`glide.checkpoints.model_parts`) stands for that guide.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from glide.checkpoints.load import load_with_vocabulary
from glide.checkpoints.model_parts import part_or
from glide.checkpoints.provenance import fingerprint
from glide.networks.cpu.prepacked import pack_
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_
from glide.utils.errors import InputError
from glide.utils.ranges import flag
from guidance.options import Options

if TYPE_CHECKING:
    from guidance.classifier.network import NoisyClassifier
    from guidance.clip.network import NoisyClip
    from guidance.clip.pretrained import CleanClip

M = TypeVar("M", bound=torch.nn.Module)
LOADING = RLock()
"""Held while a network is loaded: threads that share a pipeline share its guides."""
CLIP_VOCABULARY = "openai/clip-vit-base-patch32"


class GuideNetworks:
    """Networks on one device, by the names in `Options`. InputError where there is none of that name."""

    def __init__(
        self, device: torch.device, vocab: str | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        """vocab: of a weaker model that is a published .pt file; None is GLIDE's. dtype: of U-Nets and their down
        paths."""
        self.device, self.vocab, self.dtype = device, vocab, dtype
        self._loaded: dict[tuple[str, str], Any] = {}
        self._fingerprints: dict[tuple[str, str], str] = {}

    def weak(self, options: Options) -> Model:
        """The weaker model of autoguidance, in eval mode."""

        def load(name: str) -> Model:
            place = part_or(name, "weak")
            model = load_with_vocabulary(place, self.device, self.vocab if name.endswith(".pt") else None)
            self._fingerprints["weak", name] = fingerprint(model)  # of the weights as they are in the file
            self._ready(model.unet)
            return model

        return self._load("weak", "auto", options, load)

    def classifier(self, options: Options) -> NoisyClassifier:
        """The noisy classifier."""
        from guidance.classifier.load import load_classifier

        def load(name: str) -> NoisyClassifier:
            classifier = load_classifier(part_or(name, "classifier"), self.device)
            self._fingerprints["classifier", name] = fingerprint(classifier)
            return self._ready(classifier)

        return self._load("classifier", "classifier", options, load)

    def clip(self, options: Options) -> NoisyClip | CleanClip:
        """The CLIP, noisy or clean."""
        from guidance.clip.network import NoisyClip
        from guidance.clip.openai import is_pair
        from guidance.clip.pretrained import load_any_clip

        def load(name: str) -> NoisyClip | CleanClip:
            vocab = options.clip_vocab or (CLIP_VOCABULARY if is_pair(name) else None)
            clip = load_any_clip(part_or(name, "clip"), self.device, vocab)
            if isinstance(clip, NoisyClip):
                self._fingerprints["clip", name] = fingerprint(clip)
                if clip.config.trunk is not None:  # transformers run by autocast
                    self._ready(clip.image)
            return clip

        return self._load("clip", "clip", options, load)

    def _ready(self, network: M) -> M:
        """Convert the network in place to the requested type and its fastest layout, for inference only."""
        network.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return pack_(lower_(network, self.dtype))

    def fingerprints(self, options: Options, read: frozenset[str]) -> dict[str, str]:
        """Fingerprints of the networks' weights, by the option that names each; only of options that are read."""
        load: dict[str, Callable[[Options], Any]] = {
            "weak": self.weak,
            "classifier": self.classifier,
            "clip": self.clip,
        }
        found = {}
        for name in sorted(name for name in load.keys() & read if getattr(options, name) is not None):
            guide = load[name](options)
            if isinstance(guide, torch.nn.Module):  # a clean CLIP is a function to us
                key = (name, getattr(options, name))
                if key not in self._fingerprints:
                    self._fingerprints[key] = fingerprint(guide)
                found[name] = self._fingerprints[key]
        return found

    def _load(self, option: str, guidance: str, options: Options, load: Callable[[str], Any]) -> Any:
        name = getattr(options, option)
        if name is None:
            raise InputError(
                f"got the guidance {guidance!r} without the network that guides, expected its name: give "
                f"{flag(option)} NAME"
            )
        with LOADING:
            if (option, name) not in self._loaded:
                self._loaded[option, name] = load(name)
            return self._loaded[option, name]
