"""Arguments under other names than ours: the nearest right word for each.

Imports nothing heavy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from glide.utils.errors import InputError

OTHER_WORDS = {
    "steps": "num_inference_steps",
    "num_steps": "num_inference_steps",
    "timesteps": "num_inference_steps (a respacing such as '10,10,3,2,2')",
    "sigmas": "spacing",
    "scheduler": "sampler",
    "sampler_name": "sampler",
    "solver": "sampler",
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "scale": "guidance_scale",
    "guidance_rescale": "options=Options(rescale=...)",
    "rescale": "options=Options(rescale=...)",
    "pag_scale": "guidances=['pag:2']",
    "pag_applied_layers": "options=Options(pag_layers=...)",
    "negative": "negative_prompt",
    "prompts": "prompt",
    "caption": "prompt",
    "captions": "prompt",
    "text": "prompt",
    "class_labels": "label",
    "class_label": "label",
    "labels": "label",
    "batch_size": "num_images_per_prompt",
    "num_samples": "num_images_per_prompt",
    "n_iter": "num_images_per_prompt",
    "noise": "latents",
    "mask": "mask_image",
    "denoising_strength": "strength",
    "callback": "callback_on_step_end",
    "callback_steps": "callback_on_step_end",
    "torch_dtype": "dtype",
    "torch_device": "device",
    "model": "name",
    "compile": "compiles",
}
"""Those of diffusers, A1111 and our command lines."""
HERE_NOT = {
    "prompt_embeds": "captions are encoded by the pipeline itself",
    "negative_prompt_embeds": "captions are encoded by the pipeline itself",
    "prompt_2": "there is one text encoder",
    "clip_skip": "the text encoder is part of the model",
    "cross_attention_kwargs": "there are no LoRA weights",
    "ip_adapter_image": "there are no IP adapters",
    "control_image": "there are no ControlNets",
    "safety_checker": "no picture is filtered",
    "original_size": "models here are not conditioned on a size",
    "variant": "a model folder holds one file of weights",
    "use_safetensors": "weights are always read as safetensors",
    "trust_remote_code": "a model folder holds no code",
}


OTHER_PARTS = {
    "scheduler": "a solver is chosen in each call: pipe(prompt, sampler='euler')",
    "vae": "models here draw pixels, without an autoencoder",
    "text_encoder": "it is part of pipe.model",
    "tokenizer": "it is pipe.model.tokenizer",
    "transformer": "the network is pipe.unet",
    "safety_checker": "no picture is filtered",
    "components": "the parts are pipe.model and pipe.unet",
    "load_lora_weights": "there are no LoRA weights: train further by train_base.py --init",
    "from_single_file": "Pipeline.from_pretrained reads published .pt files, too",
    "enable_model_cpu_offload": "choose a device by pipe.to('cuda')",
    "enable_sequential_cpu_offload": "choose a device by pipe.to('cuda')",
    "cuda": "write pipe.to('cuda')",
    "cpu": "write pipe.to('cpu')",
    "half": "write pipe.to(torch.float16)",
    "upscale": "enlarge pictures by scripts/upsample.py",
    "img2img": "write pipe(prompt, image=..., strength=0.6)",
    "inpaint": "write pipe(prompt, image=..., mask_image=...)",
}
"""Attributes of other pipelines, and what stands in their place here."""


class UnknownPart(InputError, AttributeError):
    """An attribute that a pipeline does not have, with what stands in its place."""


def refuse_part(name: str) -> UnknownPart:
    """The error for an attribute that a pipeline does not have."""
    if name in OTHER_PARTS:
        return UnknownPart(f"got {name}, which a Pipeline does not have: {OTHER_PARTS[name]}")
    if name.startswith(("enable_", "disable_", "fuse_")):
        return UnknownPart(f"got {name}, which a Pipeline does not have, for it is not needed: leave it out")
    return UnknownPart(f"got {name!r}, which a Pipeline does not have: see help(Pipeline)")


def refuse_unknown(unknown: Iterable[str], known: Iterable[str], of: str) -> None:
    """InputError for the first unknown keyword, with the nearest known one.

    of: what was called, for the message.
    """
    names = sorted(set(known) - {"self", "cls", "unknown"})
    for name in unknown:
        if name in HERE_NOT:
            raise InputError(f"got {name} for {of}, expected none, since {HERE_NOT[name]}: leave it out")
        meant = _nearest(name, names)
        hint = f"did you mean {meant}?" if meant else f"choose of {', '.join(names)}"
        raise InputError(f"got {name}, which {of} does not have: {hint}")


def _nearest(name: str, names: list[str]) -> str | None:
    """The keyword that is meant by another tool's word, by a part of a name, or by one that is misspelt."""
    words = {word: ours for word, ours in OTHER_WORDS.items() if ours.split("=")[0].split(" ")[0] in names}
    said = name.lower()
    if said in words:
        return words[said]
    for known in names:
        if known.startswith(said) or said.startswith(known):
            return known
    near = difflib.get_close_matches(said, [*names, *words], n=1, cutoff=0.6)
    return words.get(near[0], near[0]) if near else None
