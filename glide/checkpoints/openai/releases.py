"""The options of the published OpenAI models, in the originals' names, by the names of their files."""

from __future__ import annotations

import re
from typing import Any

from glide.utils.errors import InputError

_SHARED: dict[str, Any] = {
    "image_size": 64,
    "channel_mult": "",
    "num_heads_upsample": -1,
    "diffusion_steps": 1000,
    "use_scale_shift_norm": True,
    "resblock_updown": True,
    "predict_xstart": False,
    "rescale_timesteps": False,
    # these change how a model is trained, sampled or computed, but not its function
    "use_checkpoint": False,
    "use_fp16": False,
    "use_kl": False,
    "rescale_learned_sigmas": False,
    "timestep_respacing": "",
}
GLIDE: dict[str, Any] = _SHARED | {
    "num_channels": 192,
    "num_res_blocks": 3,
    "attention_resolutions": "32,16,8",
    "num_heads": 1,
    "num_head_channels": 64,
    "dropout": 0.1,
    "n_vocab": 50257,
    "text_ctx": 128,
    "xf_width": 512,
    "xf_layers": 16,
    "xf_heads": 8,
    "xf_final_ln": True,
    "xf_padding": True,
    "inpaint": False,
    "super_res": False,
    "learn_sigma": True,
    "noise_schedule": "squaredcos_cap_v2",
    "cache_text_emb": False,
}
"""Every option of GLIDE, and its value in the published base model."""

ADM: dict[str, Any] = _SHARED | {
    "num_channels": 128,
    "num_res_blocks": 2,
    "attention_resolutions": "16,8",
    "num_heads": 4,
    "num_head_channels": -1,
    "dropout": 0.0,
    "resblock_updown": False,
    "class_cond": False,
    "num_classes": 1000,
    "use_new_attention_order": False,
    "learn_sigma": False,
    "sigma_small": False,
    "noise_schedule": "linear",
    "large_size": 0,  # only for an upsampler, which has no image_size
    "small_size": 0,
}
"""Every option of ADM (guided-diffusion), and its default in the original scripts."""

_ADM_PUBLISHED = ADM | {
    "image_size": 256,
    "num_channels": 256,
    "num_head_channels": 64,
    "attention_resolutions": "32,16,8",
    "resblock_updown": True,
    "class_cond": True,
    "learn_sigma": True,
}
GLIDE_UPSAMPLE: dict[str, Any] = GLIDE | {
    "image_size": 256,
    "num_res_blocks": 2,
    "noise_schedule": "linear",
    "super_res": True,
}
_LSUN = _ADM_PUBLISHED | {"class_cond": False, "dropout": 0.1}
_ADM_UPSAMPLE = _ADM_PUBLISHED | {"num_channels": 192}

PUBLISHED: dict[str, dict[str, Any]] = {
    "base.pt": GLIDE,
    "base_inpaint.pt": GLIDE | {"inpaint": True},
    "upsample.pt": GLIDE_UPSAMPLE,
    "upsample_inpaint.pt": GLIDE_UPSAMPLE | {"inpaint": True},
    "64x64_diffusion.pt": _ADM_PUBLISHED
    | {
        "image_size": 64,
        "num_channels": 192,
        "num_res_blocks": 3,
        "dropout": 0.1,
        "use_new_attention_order": True,
        "noise_schedule": "cosine",
    },
    "128x128_diffusion.pt": _ADM_PUBLISHED | {"image_size": 128, "num_head_channels": -1},
    "256x256_diffusion.pt": _ADM_PUBLISHED,
    "256x256_diffusion_uncond.pt": _ADM_PUBLISHED | {"class_cond": False},
    "512x512_diffusion.pt": _ADM_PUBLISHED | {"image_size": 512},
    "64_256_upsampler.pt": _ADM_UPSAMPLE | {"large_size": 256, "small_size": 64, "num_head_channels": -1},
    "128_512_upsampler.pt": _ADM_UPSAMPLE
    | {"large_size": 512, "small_size": 128, "attention_resolutions": "32,16"},
    "lsun_bedroom.pt": _LSUN,
    "lsun_cat.pt": _LSUN,
    "lsun_horse.pt": _LSUN,
    "lsun_horse_nodropout.pt": _LSUN | {"dropout": 0.0},
}
"""The options of each published diffusion model, by its file's name."""

CLASSIFIER: dict[str, Any] = {
    "image_size": 64,
    "classifier_width": 128,
    "classifier_depth": 2,
    "classifier_attention_resolutions": "32,16,8",
    "classifier_use_scale_shift_norm": True,
    "classifier_resblock_updown": True,
    "classifier_pool": "attention",
    "classifier_use_fp16": False,  # changes how it is computed, not the function it is
    "num_classes": 1000,
    "noise_schedule": "linear",
    "diffusion_steps": 1000,
}
"""Every option of ADM's noisy classifiers, and its default in the original scripts."""

CLASSIFIERS: dict[str, dict[str, Any]] = {
    # the noise is that of the published diffusion model of the same size
    "64x64_classifier.pt": CLASSIFIER | {"classifier_depth": 4, "noise_schedule": "cosine"},
    "128x128_classifier.pt": CLASSIFIER | {"image_size": 128},
    "256x256_classifier.pt": CLASSIFIER | {"image_size": 256},
    "512x512_classifier.pt": CLASSIFIER | {"image_size": 512},
}
"""The options of each published classifier, by its file's name."""

OTHER_KINDS = re.compile(r"\d+x\d+_classifier\.pt|clip_(text|image)_enc\.pt")
"""Names of published files of other kinds of models."""


def options_for(filename: str) -> dict[str, Any]:
    """The options of a published checkpoint, by its file's name, in any folder.

    Raises InputError for another name.
    """
    name = re.split(r"[/\\]", filename)[-1]
    if name in PUBLISHED:
        return dict(PUBLISHED[name])
    if OTHER_KINDS.fullmatch(name):
        raise InputError(
            f"{name} is a classifier or CLIP model; give a diffusion model: {', '.join(PUBLISHED)}."
        )
    raise InputError(
        f"the options of {name} do not follow from its name or its tensors; give them, or one of "
        f"{', '.join(PUBLISHED)}."
    )
