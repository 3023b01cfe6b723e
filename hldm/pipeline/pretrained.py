"""A trained model in three lines of Python, without its data set: from a run, an exported folder, or weights of others.

from hldm.pipeline.pretrained import HLDM
model = HLDM.from_pretrained("outputs/main/<run>")
images = model.sample(16, seed=0)
"""

import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DModel, VQModel
from torch import Tensor, nn

from hldm.autoencoder import PublishedAutoencoder
from hldm.conditioning import Subjects, Unconditional
from hldm.config.autoencoder import Published
from hldm.config.conditioning import Unconditional as NoCondition
from hldm.config.diffusion import PublishedUNet as UNetSection
from hldm.config.published import FIRST_STAGE_PARTS, latent_channels, scaling, side
from hldm.data.pictures import UnreadableError, prepared
from hldm.diffusion import DiffusionSampler, PublishedUNet, TangentDDPM
from hldm.diffusion.tangent_ddpm import PREDICTIONS
from hldm.errors import UserError
from hldm.geometry import Euclidean
from hldm.images import to_uint8, to_unit
from hldm.interchange import check_finite, convert, in_words, load_component, load_scheduler, read_tensors, sizes
from hldm.model import LatentDiffusion, LatentModel
from hldm.paths import expanded
from hldm.pipeline.build import build_dataset, build_model, load_model
from hldm.pipeline.exported import ANEW, FACTS, SAMPLER, WEIGHTS, known_dataset, known_sampler, with_text_model
from hldm.pipeline.samples import balanced_labels, sample_images
from hldm.run.directory import MODEL, RunDirectory, configuration
from hldm.training import load_weights


@dataclass(frozen=True)
class HLDM:
    """A trained model, ready to sample.

    Attributes:
        model: on its device, in evaluation mode.
        classes: how many there are to ask for.
    """

    model: LatentModel
    classes: int = 1

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str | torch.device = "cpu") -> "HLDM":
        """The model that lies at `source`.

        Args:
            source: a finished run, a folder that `hldm export` wrote, a folder of an `LDMPipeline` of diffusers, or a
                checkpoint of CompVis/latent-diffusion, with attention heads of 32 channels where no config.yaml lies
                beside it. `hldm convert` takes one that lies elsewhere.

        Raises:
            UserError: it is none of these, or its weights are damaged.
        """
        path = expanded(str(source))
        if (path / "config.yaml").is_file():
            return cls._of_ours(path, torch.device(device))
        unet: Any
        if path.is_file():
            parts = convert(read_tensors(path), **sizes(path.with_name("config.yaml")))
            unet, first_stage, scheduler = parts.unet, parts.first_stage, parts.scheduler
        elif (path / "model_index.json").is_file():
            unet = load_component(path / "unet")
            first_stage = first_stage_in(path)
            scheduler = load_scheduler(path)
        else:
            raise UserError(
                f"{path} is no run, no exported folder, no pipeline of diffusers and no checkpoint. Name one of these."
            )
        if unet is None or first_stage is None or scheduler is None:
            raise UserError(f"{path} has no whole model of latent diffusion: U-Net, first stage and noise schedule.")
        model = of_diffusers(unet, first_stage, scheduler)
        if (path / SAMPLER).is_file():
            model.sampler = known_sampler(path / SAMPLER)
        return cls(model.to(torch.device(device)).eval().requires_grad_(False))

    @classmethod
    def _of_ours(cls, path: Path, device: torch.device) -> "HLDM":
        if any((path / name).exists() for name in (MODEL, "status.json")):
            config = RunDirectory(path).config
            dataset = build_dataset(config)
            return cls(load_model(config, dataset, path, device), dataset.classes)
        config = configuration(path, remedy=ANEW)
        dataset = known_dataset(path)
        with in_words(f"What {path / 'config.yaml'} and {FACTS} describe", remedy=ANEW):
            model = build_model(with_text_model(config, path), dataset)
        load_weights(path / WEIGHTS, model, remedy=ANEW)
        check_finite(model.state_dict(), path / WEIGHTS)
        return cls(model.to(device).eval().requires_grad_(False), dataset.classes)

    def sample(self, subjects: int | Subjects, seed: int = 0, batch_size: int = 64) -> Tensor:
        """Images uint8 (N, C, H, W) on the CPU.

        Args:
            subjects: how many, with classes in turn; or labels (N,), or prompts where the model reads text.
            seed: of all noise.
            batch_size: drawn at once.
        """
        asked = balanced_labels(subjects, self.classes) if isinstance(subjects, int) else subjects
        return sample_images(self.model, asked, seed=seed, batch_size=batch_size)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images, uint8 (B, C, H, W) or in [0, 1] → normal coordinates of their latents (B, *latent shape)."""
        return self.model.autoencoder.encode(to_unit(images.to(self.model.device))).loc

    @torch.no_grad()
    def decode(self, v: Tensor) -> Tensor:
        """Normal coordinates → images, uint8 (B, C, H, W)."""
        return self.model.images(v.to(self.model.device))


def first_stage_in(folder: Path) -> VQModel | AutoencoderKL:
    """The first stage of a folder of diffusers: a model's, or a pipeline's."""
    part = next((folder / name for name in FIRST_STAGE_PARTS if (folder / name).is_dir()), folder)
    return load_component(part)


def of_diffusers(unet: Any, first_stage: nn.Module, scheduler: DDIMScheduler) -> LatentDiffusion:
    """An unconditional latent diffusion model of diffusers as one of ours, in float32.

    Raises:
        UserError: its noise schedule is another one, or its U-Net is told more than a noisy latent of this first stage.
    """
    settings: Any = scheduler.config
    process = process_of(scheduler)
    theirs, latent_side = unet.config, side(unet.config, "the U-Net")
    decoded: Any = first_stage.config
    latent = latent_channels(decoded)
    if not isinstance(unet, UNet2DModel) or theirs.num_class_embeds or theirs.class_embed_type:
        raise UserError(
            "The U-Net of this model is told a text or a class. Of pipelines only unconditional ones are read."
        )
    if (theirs.in_channels, theirs.out_channels) != (latent, latent):
        raise UserError(
            f"The U-Net takes {theirs.in_channels} channels and predicts {theirs.out_channels}, and the latents have "
            f"{latent}. Take the first stage that it was trained with."
        )
    if latent_side % (divisor := 2 ** (len(theirs.block_out_channels) - 1)):
        raise UserError(
            f"sample_size={latent_side} of the U-Net cannot be halved by its levels: its config.json must name a "
            f"multiple of {divisor}."
        )
    autoencoder = published_autoencoder(first_stage, latent_side)
    spacing = settings.timestep_spacing
    if spacing == "leading" and settings.steps_offset:
        spacing = "leading_1"
    network = PublishedUNet(_section(unet), layout=autoencoder.layout, classes=1)
    network.unet = unet
    model = LatentDiffusion(
        autoencoder,
        network,
        process,
        DiffusionSampler(steps=50, spacing=spacing),
        Unconditional(NoCondition(), class_names=("all",)),
    )
    model.fit_latents(torch.empty(0), scale=torch.tensor(1 / scaling_factor(first_stage)))
    return model


def process_of(scheduler: DDIMScheduler) -> TangentDDPM:
    """The process on the schedule that a scheduler of diffusers has.

    Raises:
        UserError: there is no such one here.
    """
    settings: Any = scheduler.config
    predicted: Any = {theirs: ours for ours, theirs in PREDICTIONS.items()}.get(settings.prediction_type)
    name, is_rescaled = settings.beta_schedule, bool(settings.rescale_betas_zero_snr)
    if predicted and name in ("scaled_linear", "squaredcos_cap_v2") and not (is_rescaled and predicted == "epsilon"):
        process = TangentDDPM(
            schedule=name,
            beta_start=settings.beta_start,
            beta_end=settings.beta_end,
            prediction=predicted,
            zero_terminal_snr=is_rescaled,
        )
        ours, theirs = process.scheduler.betas, scheduler.betas
        if ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-4):
            return process
    raise UserError(
        f"The noise schedule of this model, {name} with {len(scheduler.betas)} steps and a network of "
        f"{settings.prediction_type}, is not here: scaled_linear and squaredcos_cap_v2 with 1000 steps are."
    )


def scaling_factor(first_stage: nn.Module) -> float:
    """What the process multiplies latents by; 1 of a VQModel whose config.json has its class's default, .18215."""
    settings: Any = first_stage.config
    return scaling({**settings, "_class_name": type(first_stage).__name__})


def published_autoencoder(first_stage: nn.Module, latent_side: int) -> PublishedAutoencoder:
    """A model of diffusers as an autoencoder of images whose latents have this side."""
    settings: Any = first_stage.config
    content = {**settings, "_class_name": type(first_stage).__name__}
    side = latent_side * 2 ** (len(settings.block_out_channels) - 1)
    section = Published(architecture=content, latent_channels=latent_channels(content), padded_side=side)
    autoencoder = PublishedAutoencoder(
        section,
        manifold=Euclidean(section.latent_channels),
        decoder_stem="linear",
        image_shape=(settings.in_channels, side, side),
    )
    autoencoder.model = first_stage
    return autoencoder


@torch.no_grad()
def round_trip(first_stage: nn.Module, folder: Path, most: int = 16) -> str:
    """What the first stage makes of pictures in a folder, in a sentence: whether its scale is right shows there.

    Raises:
        UserError: there is no picture.
    """
    settings: Any = first_stage.config
    images, image_side = [], side(settings, "the first stage")
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        with suppress(UnreadableError):
            images.append(torch.tensor(prepared(file.read_bytes(), image_side, settings.in_channels)))
        if len(images) == most:
            break
    if not images:
        raise UserError(f"images={folder} has no picture.")
    autoencoder = published_autoencoder(first_stage, image_side // 2 ** (len(settings.block_out_channels) - 1))
    pictures = torch.stack(images)
    v = torch.cat([autoencoder.encode(to_unit(image[None])).loc for image in pictures])
    rebuilt = torch.cat([to_uint8(autoencoder.to_images(latent[None])) for latent in v])
    error = (rebuilt.double() - pictures.double()).square().mean()
    scaled = float((v * scaling_factor(first_stage)).square().mean().sqrt())
    return (
        f"{len(pictures)} pictures there and back: PSNR {10 * math.log10(255**2 / max(float(error), 1e-9)):.2f} dB. "
        f"Latents have the root mean square {scaled:.3g} where the U-Net sees them; about 1 is usual."
    )


def _section(unet: nn.Module) -> UNetSection:
    settings: Any = unet.config
    return UNetSection(architecture={**settings, "_class_name": type(unet).__name__})
