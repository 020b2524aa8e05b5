"""Networks of diffusers (UNet2DModel, UNet2DConditionModel) in the place of this project's U-Net.

This module receives a network that was built and read elsewhere (`glide.checkpoints.diffusers_pipelines`), so it
imports no diffusers. `glide.networks.diffusers_transformer` has a transformer, `glide.networks.diffusers_score` a
score network.

Shape letters: N batch, C channels, H W pixels, E embedding width, L tokens, D token width, P planes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig, UNetConfig
from glide.networks.first_stage import FirstStage
from glide.networks.frozen_text_encoder import FrozenTokenizer
from glide.networks.input_kind import InputPlanes
from glide.networks.model import Model
from glide.networks.unet import OnBlock, UNet, as_it_is
from glide.utils.errors import InputError

_identity: ContextVar[Collection[str]] = ContextVar("identity", default=())
"""Names of the attention layers whose map is the identity in the present call: a call leaves the network as it was."""


class DiffusersUNet(UNet):
    """A network of diffusers, called as a `UNet` is. It has the U-Net's interface and none of its layers."""

    layer_names = re.compile(
        r"(down|mid|up)_blocks?\.(?:(\d+)\.)?attentions\.(\d+)(?:\.transformer_blocks\.\d+\.attn1)?"
    )
    """Attention layers between pixels by diffusers' names; the groups make those of `attention_layers`."""

    def __init__(self, network: nn.Module, config: UNetConfig) -> None:
        """network: a UNet2DModel or a UNet2DConditionModel. config: its sizes, in this project's words."""
        nn.Module.__init__(self)
        self.network: Any = network
        self.config = config
        self.gradient_checkpointing = False
        for name, layer in self._attention():
            layer.processor = _Perturbable(name, layer.processor)

    def take_class_embedding(self) -> nn.Embedding:
        """The network's embedding of classes; from now on the network receives vectors [N,E] in place of numbers."""
        embedding: nn.Embedding = self.network.class_embedding
        self.network.class_embedding = nn.Identity()
        return embedding

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, in which all of the network computes."""
        return next(self.parameters()).dtype

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        identity: Collection[str] = (),
        on_block: OnBlock = as_it_is,
        inner: bool = False,
    ) -> Tensor:
        """x [N,C,H,W], t [N] training timesteps, cond -> [N,out_channels,H,W].

        identity: names of `attention_layers` whose attention map is the identity in this call. inner: never, as such a
        network has no inner head.
        """
        if cond.planes is not None:
            x = torch.cat([x, cond.planes], dim=1)
        inputs = {"class_labels": cond.vector, "encoder_hidden_states": cond.tokens}
        more = {name: part.to(self.dtype) for name, part in inputs.items() if part is not None}
        token = _identity.set(identity)
        try:
            return self.run_network(x, t, more)
        finally:
            _identity.reset(token)

    def run_network(self, x: Tensor, t: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """x [N,C,H,W] with its planes, t [N] training timesteps -> [N,out_channels,H,W]."""
        return self.network(x.to(self.dtype), t, return_dict=False, **conditions)[0]

    def block_names(self) -> tuple[str, ...]:
        raise InputError(
            "got features of a network of diffusers, expected those of a network of this project: leave them out"
        )

    def attention_layers(self) -> dict[str, Any]:
        """Attention layers between pixels by name: "down.BLOCK.LAYER", "middle", "up.BLOCK.LAYER", or "block.BLOCK"."""
        return dict(self._attention())

    def _attention(self) -> list[tuple[str, Any]]:
        found = []
        for name, module in self.network.named_modules():
            if (place := self.layer_names.fullmatch(name)) and hasattr(module, "to_v"):
                parts = [part for part in place.groups() if part is not None]
                found.append(("middle" if parts[0] == "mid" else ".".join(parts), module))
        return found

    def lower_(self, dtype: torch.dtype) -> Self:
        """Round all weights to `dtype`, in place: the layers cast no inputs."""
        return self.to(dtype)


class _Perturbable:
    """An attention processor of diffusers that can leave the attention map out: each pixel attends to itself alone."""

    def __init__(self, name: str, inner: Any) -> None:
        self.names, self.inner = {name}, inner

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """hidden_states [N,C,H,W] or [N,L,C] -> the same shape. diffusers reads the names of these arguments."""
        if self.names.isdisjoint(_identity.get()):
            return self.inner(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
        h = hidden_states.flatten(2).mT if hidden_states.ndim == 4 else hidden_states  # [N,L,C]
        if attn.group_norm is not None:
            h = attn.group_norm(h.mT).mT
        h = attn.to_out[0](attn.to_v(h))
        if hidden_states.ndim == 4:
            h = h.mT.reshape(hidden_states.shape)
        if attn.residual_connection:
            h = h + hidden_states
        return h / attn.rescale_output_factor


@dataclass(frozen=True, eq=False)
class PromptEncoder:
    """A frozen text encoder whose outputs the network receives as they are, at padded positions too."""

    network: nn.Module
    tokenizer: FrozenTokenizer
    fingerprint: str

    def __deepcopy__(self, memo: dict[int, Any]) -> PromptEncoder:
        return self  # frozen: copies of a model share it

    def encode(self, tokens: Tensor) -> Tensor:
        """tokens [N,L] int64 -> the last layer's outputs [N,L,D], float32. Each token sees those before it."""
        network = self.network.to(tokens.device)
        with torch.no_grad(), torch.autocast(tokens.device.type, enabled=False):
            return network(input_ids=tokens).last_hidden_state.float()


class DiffusersModel(Model):
    """A diffusion model whose network is one of diffusers. It draws; it is neither trained nor saved here."""

    def __init__(
        self,
        config: ModelConfig,
        unet: DiffusersUNet,
        first_stage: FirstStage,
        prompts: PromptEncoder | None = None,
        origin: bytes = b"",
        parts: tuple[InputPlanes, ...] = (),
    ) -> None:
        """prompts: the text encoder of a model that is conditioned on captions. parts: the kinds of its input planes.

        origin: a digest of what else the pictures depend on, which becomes a part of the model's fingerprint.
        """
        nn.Module.__init__(self)
        self.config, self.commit, self.text = config, None, None
        self.prompts, self.tokenizer = prompts, prompts.tokenizer if prompts else None
        if config.num_classes:
            self.label = unet.take_class_embedding()
        self.first_stage, self.parts, self.unet = first_stage, parts, unet
        self.register_buffer("origin", torch.tensor(list(origin), dtype=torch.uint8))

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    def encode(self, batch: Mapping[str, Tensor]) -> Conditioning:
        """The conditioning of classes, y [N] int64, or of captions, tokens [N,L] int64; without planes."""
        return Conditioning(
            vector=self.label(batch["y"]) if self.config.num_classes else None,
            tokens=self.prompts.encode(batch["tokens"]) if self.prompts else None,
        )
