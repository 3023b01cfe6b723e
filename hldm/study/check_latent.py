"""The latent layout: autoencoder and denoiser must be made for the same one."""

from collections.abc import Mapping
from typing import Any

from hldm.errors import UserError
from hldm.study.config import get

MAX_DIMENSION = 16
"""Of one global point: beyond it, float32 has no coordinates for the far end of a standard prior at curvature −1."""

MAP, POINT, BOTH = "a map of points", "one point per image", "a map of points beside one point"

LATENTS = {
    "KLAutoencoder": MAP,
    "VQAutoencoder": MAP,
    "PublishedAutoencoder": MAP,
    "MLPAutoencoder": POINT,
    "GlobalKLAutoencoder": POINT,
    "MapGlobalKLAutoencoder": BOTH,
}
"""Class of the autoencoder → its latents."""

DENOISED = {"Denoiser": MAP, "MLPDenoiser": POINT, "CrossAttentionDenoiser": POINT, "MapGlobalDenoiser": BOTH}
"""Class of the denoiser → the latents it is made for."""

SWITCHES = ("stem", "attention")
"""Settings of denoisers with a U-Net."""

OPTIONS = {
    MAP: ("latent=map", "autoencoder=kl or vq", "denoiser=unet"),
    POINT: ("latent=global", "autoencoder=kl_global or mlp", "denoiser=mlp or cross_attention"),
    BOTH: ("latent=map_global", "autoencoder=kl_map_global", "denoiser=unet_mlp"),
}
"""Latents → what to type: for both, for the autoencoder, for the denoiser."""


def check_latent(config: Mapping[str, Any]) -> None:
    """Raise a UserError where the parts of the model have different latents in mind, or the latents make no sense."""
    latents = LATENTS.get(_class(config, "autoencoder"))
    denoised = DENOISED.get(_class(config, "denoiser"))
    if get(config, "diffusion.process") is not None and latents and denoised and latents != denoised:
        layout, _, denoiser = OPTIONS[latents]
        raise UserError(
            f"The autoencoder has {latents}, and the denoiser is made for {denoised}. Type {denoiser} to keep the "
            f"autoencoder, {OPTIONS[denoised][1]} to keep the denoiser, {layout} for what the platform puts together, "
            "or diffusion=none for the autoencoder alone."
        )
    if denoised == POINT and (switch := next((key for key in SWITCHES if get(config, f"denoiser.{key}")), None)):
        raise UserError(
            f"denoiser.{switch}={get(config, f'denoiser.{switch}')} is a switch of the U-Net, and a point is denoised "
            "without one. Type latent=map or latent=map_global, or leave out what turned it on, such as +ablation=…."
        )
    dimension = get(config, "autoencoder.latent_channels")
    if _class(config, "autoencoder") == "GlobalKLAutoencoder" and not 2 <= dimension <= MAX_DIMENSION:
        raise UserError(
            f"autoencoder.latent_channels={dimension} is the dimension of the global point here, and must be from 2 to "
            f"{MAX_DIMENSION}, for example autoencoder.latent_channels=8. For more room type latent=map_global."
        )
    if latents == BOTH:
        _check_both(config)


def _check_both(config: Mapping[str, Any]) -> None:
    if get(config, "autoencoder.posterior") == "riemannian":
        raise UserError(
            "autoencoder.posterior=riemannian has one scale for each ball and each flat factor, so a flat map would "
            "have one for all its positions. With latent=map_global type autoencoder.posterior=wrapped."
        )
    if get(config, "autoencoder.flat_map") and get(config, "geometry.flat_channels") is not None:
        raise UserError(
            "autoencoder.flat_map=true leaves no ball in the map, and geometry=hybrid splits its channels. Type "
            "geometry=poincare, which is the same latent space, or autoencoder.flat_map=false."
        )


def _class(config: Mapping[str, Any], section: str) -> str:
    return str(get(config, f"{section}._target_")).rpartition(".")[2]
