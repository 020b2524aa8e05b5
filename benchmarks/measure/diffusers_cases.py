"""Random pipelines of diffusers, one of each kind, as folders: large enough that a step is the network's work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

SIDE = 32  # of what the networks draw
WIDTHS = (96, 192)
TOKENS = 64  # width
UNET: dict[str, Any] = {"sample_size": SIDE, "block_out_channels": WIDTHS, "layers_per_block": 2}
PIXELS: dict[str, Any] = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
CROSS: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": TOKENS,
}
AUTOENCODER: dict[str, Any] = {
    "block_out_channels": (32, 32, 32, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
WORDS = ("a", "red", "circle")


def _ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        timestep_spacing="trailing",
    )


def _pixels(folder: Path) -> Any:
    from diffusers import DDIMPipeline, UNet2DModel

    return DDIMPipeline(UNet2DModel(**UNET, **PIXELS), _ddim())


def _score(folder: Path) -> Any:
    from diffusers import ScoreSdeVePipeline, ScoreSdeVeScheduler, UNet2DModel

    network = UNet2DModel(**UNET, **PIXELS, time_embedding_type="fourier")
    return ScoreSdeVePipeline(network, ScoreSdeVeScheduler(correct_steps=0))


def _latents(folder: Path) -> Any:
    from diffusers import LDMPipeline, UNet2DModel, VQModel

    return LDMPipeline(VQModel(**AUTOENCODER), UNet2DModel(**UNET, **PIXELS), _ddim())


def _latents_of_captions(folder: Path) -> Any:
    import transformers
    from diffusers import AutoencoderKL, LDMTextToImagePipeline, UNet2DConditionModel
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    sizes = {"encoder_layers": 2, "encoder_ffn_dim": 128, "encoder_attention_heads": 4, "head_dim": 16}
    bert = LDMBertModel(LDMBertConfig(vocab_size=len(vocabulary), d_model=TOKENS, **sizes))
    words = transformers.BertTokenizerFast.from_pretrained(folder)
    unet = UNet2DConditionModel(**UNET, **CROSS)
    return LDMTextToImagePipeline(AutoencoderKL(**AUTOENCODER), bert, words, unet, _ddim())


def _stable(folder: Path, pipeline: str = "StableDiffusionPipeline", in_channels: int = 4) -> Any:
    import diffusers
    import transformers
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    last = len(tokens) - 1
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=TOKENS,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        bos_token_id=last - 1,
        eos_token_id=last,
        pad_token_id=last,
    )
    return getattr(diffusers, pipeline)(
        vae=diffusers.AutoencoderKL(**AUTOENCODER),
        text_encoder=transformers.CLIPTextModel(text),
        tokenizer=transformers.CLIPTokenizerFast.from_pretrained(folder, model_max_length=77),
        unet=diffusers.UNet2DConditionModel(**UNET, **CROSS, in_channels=in_channels),
        scheduler=_ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _inpainting(folder: Path) -> Any:
    return _stable(folder, "StableDiffusionInpaintPipeline", in_channels=9)


def _transformer(folder: Path) -> Any:
    from diffusers import AutoencoderKL, DiTPipeline, DiTTransformer2DModel

    sizes = {"num_attention_heads": 6, "attention_head_dim": 64, "num_layers": 6}
    network = DiTTransformer2DModel(**sizes, sample_size=SIDE, out_channels=8)
    return DiTPipeline(network, AutoencoderKL(**AUTOENCODER), _ddim())


KINDS: dict[str, Callable[[Path], Any]] = {
    "DDIMPipeline": _pixels,
    "ScoreSdeVePipeline": _score,
    "LDMPipeline": _latents,
    "LDMTextToImagePipeline": _latents_of_captions,
    "StableDiffusionPipeline": _stable,
    "StableDiffusionInpaintPipeline": _inpainting,
    "DiTPipeline": _transformer,
}
"""Builders by the class of the pipeline; each may write into its folder."""


def write_pipeline(kind: str, folder: Path) -> Any:
    """The pipeline of a kind with random weights, written to `folder`/pipeline."""
    torch.manual_seed(0)
    pipe = KINDS[kind](folder)
    pipe.save_pretrained(folder / "pipeline")
    return pipe
