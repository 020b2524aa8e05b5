"""Small random pipelines of diffusers of every kind, as folders that diffusers writes."""

import json
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from support.text_encoders import write_encoder

with warnings.catch_warnings():  # of its own imports
    warnings.simplefilter("ignore")
    diffusers: Any = pytest.importorskip("diffusers")
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

QUIET = pytest.mark.filterwarnings(  # of diffusers' own code
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
)
UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
BLOCKS = {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}
CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": 2,
    "cross_attention_dim": 16,
}
VAE = {
    "block_out_channels": (8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 4,
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
BETAS |= {"timestep_spacing": "trailing"}


def class_conditional(folder: Path) -> Any:
    unet = diffusers.UNet2DModel(**UNET, **BLOCKS, num_class_embeds=3)
    return diffusers.DDIMPipeline(unet, ddim())


def score(folder: Path) -> Any:
    blocks = {  # NCSN++
        "down_block_types": ("SkipDownBlock2D", "AttnSkipDownBlock2D"),
        "up_block_types": ("AttnSkipUpBlock2D", "SkipUpBlock2D"),
        "mid_block_scale_factor": 2**0.5,
        "attention_head_dim": None,
        "block_out_channels": (32, 32),
    }
    time = {"time_embedding_type": "fourier", "center_input_sample": True}
    unet = diffusers.UNet2DModel(**{**UNET, **blocks, **time})
    return diffusers.ScoreSdeVePipeline(unet, diffusers.ScoreSdeVeScheduler(sigma_max=50.0))


def karras(folder: Path) -> Any:
    unet = diffusers.UNet2DModel(**UNET, **BLOCKS, time_embedding_type="fourier")
    return diffusers.KarrasVePipeline(unet, diffusers.KarrasVeScheduler())


def latent(folder: Path) -> Any:
    unet = diffusers.UNet2DModel(**UNET, **BLOCKS)
    autoencoder = diffusers.VQModel(**VAE, num_vq_embeddings=16)
    with torch.no_grad():  # far from each other, so that rounding leaves each latent at its own
        autoencoder.quantize.embedding.weight.copy_(5.0 * torch.randn(16, 3))
    return diffusers.LDMPipeline(autoencoder, unet, ddim())


def latent_text(folder: Path) -> Any:
    import transformers

    words = write_encoder(folder / "words", "bert")
    tokenizer = transformers.BertTokenizerFast.from_pretrained(words)
    bert = LDMBertModel(
        LDMBertConfig(
            vocab_size=len(tokenizer),
            d_model=16,
            encoder_layers=2,
            encoder_ffn_dim=32,
            encoder_attention_heads=2,
            head_dim=8,
        )
    )
    vae = diffusers.AutoencoderKL(**VAE)
    unet = diffusers.UNet2DConditionModel(**UNET, **CROSS)
    return diffusers.LDMTextToImagePipeline(vae, bert, tokenizer, unet, ddim())


def stable(folder: Path, pipeline: str = "StableDiffusionPipeline", in_channels: int = 4) -> Any:
    import transformers

    encoder = write_encoder(folder / "words", "clip")
    return getattr(diffusers, pipeline)(
        vae=diffusers.AutoencoderKL(**VAE),
        text_encoder=transformers.CLIPTextModel.from_pretrained(encoder),
        tokenizer=transformers.CLIPTokenizerFast.from_pretrained(encoder, model_max_length=48),
        unet=diffusers.UNet2DConditionModel(**UNET, **CROSS, in_channels=in_channels),
        scheduler=ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def inpaint(folder: Path) -> Any:
    pipe = stable(folder, "StableDiffusionInpaintPipeline", in_channels=9)
    with torch.no_grad():  # its latents are drawn around their mean: with this deviation they are the mean
        pipe.vae.quant_conv.weight[4:] = 0
        pipe.vae.quant_conv.bias[4:] = -30
    return pipe


def transformer(folder: Path) -> Any:
    network = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, out_channels=8, num_layers=2, sample_size=8
    )
    return diffusers.DiTPipeline(network, diffusers.AutoencoderKL(**VAE), ddim())


KINDS: dict[str, Callable[[Path], Any]] = {
    "classes": class_conditional,
    "score": score,
    "karras": karras,
    "latent": latent,
    "latent-text": latent_text,
    "stable": stable,
    "inpaint": inpaint,
    "transformer": transformer,
}


def ddim() -> Any:
    return diffusers.DDIMScheduler(clip_sample=False, **BETAS)


def schedulers(**more: Any) -> dict[str, Any]:
    """The schedulers of four solvers with one process, by this project's names of the solvers."""
    return {
        "ddim": diffusers.DDIMScheduler(clip_sample=False, **BETAS, **more),
        "dpmpp-2m": diffusers.DPMSolverMultistepScheduler(**BETAS, **more),
        "euler": diffusers.EulerDiscreteScheduler(**BETAS, **more),
        "lms": lms(**more),
    }


def write_pipeline(folder: Path, kind: str) -> Path:
    """A pipeline of that kind, with random weights, none of which is zero."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    pipe = KINDS[kind](folder)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module) and kind == "transformer":  # whose blocks begin as the identity
            with torch.no_grad():
                for weight in part.parameters():
                    weight.add_(0.1 * torch.randn_like(weight))
    pipe.save_pretrained(folder / "pipeline")
    if kind == "transformer":  # the published ones have the names of their classes there
        labels = {i: f"animal {i}" for i in range(1000)} | {0: "tench, Tinca tinca", 1: "goldfish"}
        change(folder / "pipeline" / "model_index.json", id2label=labels)
    return folder / "pipeline"


def change(path: Path, **changes: Any) -> None:
    """Change settings in a JSON file; None removes one."""
    table = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in table.items() if value is not None}))


def copy_with(folder: Path, target: Path, scheduler: Any = None) -> Path:
    """A copy of a pipeline, by links, with another scheduler."""
    for file in folder.rglob("*"):
        if file.is_file() and not (scheduler is not None and file.parent.name == "scheduler"):
            place = target / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(file)
    if scheduler is not None:
        scheduler.save_pretrained(target / "scheduler")
    return target


class Gauss:
    """In place of scipy.integrate."""

    @staticmethod
    def quad(function: Callable[[float], float], low: float, high: float, epsrel: float) -> tuple[float]:
        nodes, weights = np.polynomial.legendre.leggauss(4)
        middle, half = (float(low) + float(high)) / 2, (float(high) - float(low)) / 2
        return (
            half * sum(w * float(function(middle + half * u)) for u, w in zip(nodes, weights, strict=True)),
        )


def lms_module() -> Any:
    try:
        return import_module("diffusers.schedulers.scheduling_lms_discrete")
    except ModuleNotFoundError as error:
        if error.name != "scipy":
            raise
        pytest.skip("this version of diffusers wants scipy")


def lms_class() -> Any:
    """diffusers' K-LMS, which integrates by scipy but need not: Gauss's rule is exact for its cubics."""
    module = lms_module()
    module.integrate = Gauss
    return module.LMSDiscreteScheduler


def lms(**more: Any) -> Any:
    with warnings.catch_warnings():  # of the arrays that it makes
        warnings.simplefilter("ignore")
        return lms_class()(**BETAS, **more)
