"""The kinds of pipelines of diffusers that are models here: of which parts each is made, and where they lie."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """The parts of a pipeline, by the folders in which diffusers keeps them."""

    network: str
    """Class of the network (`glide.checkpoints.diffusers_networks` has them)."""
    folder: str = "unet"
    autoencoder: str = ""
    """Folder of the autoencoder, of a pipeline that draws latents."""
    autoencoders: tuple[str, ...] = ("AutoencoderKL",)
    text: str = ""
    """Folder of the text encoder (`glide.checkpoints.diffusers_text`), of a pipeline that reads captions."""
    clips: bool = True
    """False: the pipeline turns its scheduler's bound of x0 off."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders with networks."""
        return tuple(part for part in (self.folder, self.autoencoder, self.text) if part)


PIXELS = Kind("UNet2DModel")
STABLE = Kind("UNet2DConditionModel", autoencoder="vae", text="text_encoder", clips=False)
EITHER = ("AutoencoderKL", "VQModel")
KINDS = {
    "DDPMPipeline": PIXELS,
    "DDIMPipeline": PIXELS,
    "PNDMPipeline": PIXELS,
    "ScoreSdeVePipeline": PIXELS,
    "KarrasVePipeline": PIXELS,
    "LDMPipeline": Kind("UNet2DModel", autoencoder="vqvae", autoencoders=EITHER),
    "LDMTextToImagePipeline": Kind(
        "UNet2DConditionModel", autoencoder="vqvae", autoencoders=EITHER, text="bert"
    ),
    "StableDiffusionPipeline": STABLE,
    "StableDiffusionImg2ImgPipeline": STABLE,
    "StableDiffusionInpaintPipeline": STABLE,
    "DiTPipeline": Kind("DiTTransformer2DModel", folder="transformer", autoencoder="vae"),
}
"""By the class of the pipeline, as model_index.json names it."""
PARTS = tuple(dict.fromkeys(part for kind in KINDS.values() for part in kind.parts))
"""The folders of all of them."""
