"""Rules about published weights: what a folder of diffusers can be a part of."""

import math
from collections.abc import Iterator
from pathlib import Path

from hldm.config.autoencoder import Published
from hldm.config.conditioning import TextConditioning
from hldm.config.diffusion import TRAIN_STEPS, PublishedUNet, TangentDDPM
from hldm.config.published import SCHEDULE, scaling, schedule
from hldm.config.schema import RunConfig
from hldm.console import shown


def published(c: RunConfig) -> Iterator[str]:
    """A published autoencoder comes from a folder, and what is lifted to balls does not teach them their curvature."""
    autoencoder = c.autoencoder
    if not isinstance(autoencoder, Published):
        return
    if c.first_stage is None:
        yield (
            "autoencoder=published is an autoencoder that is trained already. Say where it lies: "
            "first_stage=<folder with config.json and diffusion_pytorch_model.safetensors>."
        )
        return
    if c.curvature.is_learnable and not c.has_flat_latents:
        yield (
            f"curvature=learnable is learned with the autoencoder, and that of first_stage={c.first_stage} is frozen. "
            "Type a number, such as curvature=1.0."
        )
    halved = len((autoencoder.architecture or {}).get("block_out_channels", [0])) + levels(c)
    side, divisor = autoencoder.padded_side, 2 ** (halved - 2)
    if side % divisor:
        yield (
            f"autoencoder.padded_side={side} cannot be halved by the levels of first_stage={c.first_stage}"
            f"{and_denoiser(c)}: it must be a multiple of {divisor}, such as "
            f"autoencoder.padded_side={divisor * -(-side // divisor)}."
        )


def levels(c: RunConfig) -> int:
    """Levels of a published U-Net, each of which but the last halves a map of an even side; ours takes odd ones: 1."""
    denoiser = c.denoiser
    if c.has_diffusion and isinstance(denoiser, PublishedUNet):
        return len((denoiser.architecture or {}).get("block_out_channels", [0]))
    return 1


def and_denoiser(c: RunConfig) -> str:
    """Whose levels halve a map besides the autoencoder's, in a sentence."""
    return " and the denoiser" if levels(c) > 1 else ""


def published_unet(c: RunConfig) -> Iterator[str]:
    """A published U-Net comes from a folder, and sees latents and conditions as it was made for them."""
    denoiser, process = c.denoiser, c.diffusion.process
    stage = c.training.diffusion
    if c.has_diffusion and stage is not None and not stage.steps:
        if not isinstance(denoiser, PublishedUNet):
            yield (
                "training.diffusion.steps=0 leaves the denoiser as it is, which is untrained. Type "
                "training.diffusion.steps=2000, or denoiser=published for one that is trained."
            )
        elif c.diffusion.latent_scale is None or not isinstance(process, TangentDDPM):
            yield (
                "training.diffusion.steps=0 measures and trains nothing. Type diffusion=ldm, and "
                f"diffusion.latent_scale={scale_of(c):.6g}, with which the first stage's latents have the scale that "
                "its denoisers see."
            )
    if not c.has_diffusion or not isinstance(denoiser, PublishedUNet):
        return
    content = denoiser.architecture
    if content is None:
        where = f"denoiser.folder={denoiser.folder} has no config.json, and " if denoiser.folder else ""
        yield (
            f"{where}denoiser=published is a U-Net that is trained already. Say where it lies: denoiser.folder=<folder "
            "with config.json and diffusion_pytorch_model.safetensors, or a pipeline with unet/ in it>."
        )
        return
    name, where = content.get("_class_name"), f"denoiser.folder={denoiser.folder}"
    if name not in ("UNet2DModel", "UNet2DConditionModel"):
        yield f"{where} holds a {name}. Its config.json must name UNet2DModel or UNet2DConditionModel."
        return
    sees, makes, latent = content.get("in_channels", 3), content.get("out_channels", 3), c.autoencoder.latent_channels
    if (sees, makes) != (latent, latent):
        yield (
            f"{where} takes {sees} channels and predicts {makes}, and the latents have {latent}. Take the first stage "
            "that it was trained with."
        )
    if content.get("num_class_embeds") or content.get("class_embed_type"):
        yield f"{where} has embeddings of classes, which are not the data set's. Take a U-Net without."
    if isinstance(process, TangentDDPM):
        yield from schedule_of_unet(c, denoiser, process)
    text, reads = c.conditioning, content.get("cross_attention_dim", 1280)
    if name == "UNet2DModel" and c.conditioning.takes_labels:
        yield f"{where} is told nothing beside the noisy latent. Type conditioning=none."
    if name == "UNet2DConditionModel" and not (isinstance(text, TextConditioning) and text.channels == reads):
        yield (
            f"{where} reads features of a text with {reads} channels. Type conditioning=text "
            f"conditioning.channels={reads}."
        )


def scale_of(c: RunConfig) -> float:
    """`diffusion.latent_scale` with which a denoiser sees the first stage's latents as one that was published for it.

    1/scaling_factor where the latents are the folder's; on a ball they are multiplied by `autoencoder.scaling` already.
    """
    autoencoder = c.autoencoder
    if not isinstance(autoencoder, Published):
        return 1.0
    factor = scaling(autoencoder.architecture or {})
    return 1 / factor if c.has_flat_latents else (autoencoder.scaling or factor) / factor


def schedule_of_unet(c: RunConfig, denoiser: PublishedUNet, process: TangentDDPM) -> Iterator[str]:
    """The process is the one that a published U-Net was trained on, as far as its pipeline says which that was."""
    content = schedule(Path(denoiser.folder).parent / SCHEDULE) if denoiser.folder else None
    if content is None:
        return
    where = f"denoiser.folder={denoiser.folder}"
    name, steps = content.get("beta_schedule", "linear"), content.get("num_train_timesteps", TRAIN_STEPS)
    if name not in ("scaled_linear", "squaredcos_cap_v2") or steps != TRAIN_STEPS or content.get("trained_betas"):
        yield (
            f"{where} was trained on a noise schedule that is not here, {name} with {steps} steps (its "
            f"scheduler_config.json); scaled_linear and squaredcos_cap_v2 with {TRAIN_STEPS} are. Take another U-Net, "
            "or diffusion=flow to train it on."
        )
        return
    kind, is_rescaled = content.get("prediction_type", "epsilon"), bool(content.get("rescale_betas_zero_snr"))
    prediction = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}.get(kind)
    if prediction is None or (is_rescaled and prediction == "epsilon"):
        yield (
            f"{where} is a network of {kind}{' on a schedule that ends in pure noise' if is_rescaled else ''} (its "
            "scheduler_config.json), which is not here. Take another U-Net, or diffusion=flow to train it on."
        )
        return
    theirs = {"schedule": name, "prediction": prediction, "zero_terminal_snr": is_rescaled}
    if name == "scaled_linear":
        theirs |= {"beta_start": content.get("beta_start", 0.0001), "beta_end": content.get("beta_end", 0.02)}
    to_type = [
        f"diffusion.process.{key}={shown(value)}" for key, value in theirs.items() if not _is(process, key, value)
    ]
    scale = c.diffusion.latent_scale
    if (
        isinstance(c.autoencoder, Published)
        and scale is not None
        and not math.isclose(scale, scale_of(c), rel_tol=0.01)
    ):
        to_type.append(f"diffusion.latent_scale={scale_of(c):.6g}")
    if to_type:
        yield (
            f"{where} was trained on another process than this one, as scheduler_config.json and the first stage's "
            f"config.json say. Type {' '.join(to_type)}."
        )


def _is(process: TangentDDPM, key: str, value: object) -> bool:
    ours: object = getattr(process, key)
    if isinstance(ours, float) and isinstance(value, int | float):
        return math.isclose(ours, value, rel_tol=1e-3)
    return ours == value
