"""Configuration → objects. Nothing below this file sees a configuration."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_method
from hydra.utils import instantiate as hydra_instantiate

from hldm.autoencoder import VariationalAutoencoder
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.model import LatentDiffusion, LatentModel, PriorModel
from hldm.study.resources import cores
from hldm.training import initialised, load_weights

WEIGHTS = Path("checkpoints") / "model.safetensors"


def instantiate(section: Any, **arguments: Any) -> Any:
    """What a section of the configuration describes. A UserError of its constructor stays one."""
    try:
        return hydra_instantiate(section, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise


def choose_device(config: dict[str, Any]) -> torch.device:
    """The device that `hardware` asks for, with threads and determinism set up for it.

    Raises:
        UserError: a GPU is asked for and there is none that works.
    """
    wanted, threads = config["hardware"]["device"], config["hardware"]["threads"]
    # whoever started the run wrote the number down; "auto" is left where the pipeline is called directly
    torch.set_num_threads(cores() if threads == "auto" else threads)
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UserError(
            "hardware.device=cuda, but PyTorch finds no working GPU here. Use hardware=cpu or hardware=auto."
        )
    if wanted == "cpu" or not available:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return torch.device("cuda")


def build_dataset(config: dict[str, Any]) -> Dataset:
    section = config["dataset"]
    settings = SimpleNamespace(**{"validation_images": 0} | section)
    dataset: Dataset = get_method(section["_target_"])(settings)
    return dataset


def build_model(config: dict[str, Any], dataset: Dataset) -> LatentModel:
    """The untrained model. Each part's initial weights depend on the seed alone, so all geometries share them.

    Args:
        config: the resolved configuration of one run.
        dataset: gives the shape of an image and the number of classes.
    """
    seed, geometry = config["seed"], config["geometry"]
    autoencoder = initialised(
        seed,
        "autoencoder",
        lambda: instantiate(
            config["autoencoder"],
            manifold=instantiate(geometry["manifold"]),
            decoder_stem=geometry["decoder_stem"],
            image_shape=dataset.image_shape,
        ),
    )
    diffusion = config["diffusion"]
    if diffusion["process"] is None:
        assert isinstance(autoencoder, VariationalAutoencoder)  # the check refuses others
        return PriorModel(autoencoder)
    conditioning = initialised(
        seed,
        "conditioning",
        lambda: instantiate(
            config["conditioning"], class_names=dataset.class_words, curvature=instantiate(config["curvature"])
        ),
    )
    denoiser = initialised(
        seed,
        "denoiser",
        lambda: instantiate(
            config["denoiser"],
            latent_shape=autoencoder.packing or autoencoder.latent_shape,
            classes=dataset.classes,
            context_channels=conditioning.context_channels,
            label_embedding=conditioning.label_embedding,
        ),
    )
    return LatentDiffusion(
        autoencoder,
        denoiser,
        instantiate(diffusion["process"]),
        instantiate(diffusion["sampler"]),
        conditioning,
    )


def compile_training(model: LatentModel) -> None:
    """Put under torch.compile, in place, what a training step spends its time on: the loss of a variational
    autoencoder, and the denoiser. Parameters and state stay where they are; results differ in the last digits."""
    if isinstance(model.autoencoder, VariationalAutoencoder):
        compiled = torch.compile(model.autoencoder.losses_at)
        model.autoencoder.losses_at = compiled  # type: ignore[method-assign]  # on this object alone
    if isinstance(model, LatentDiffusion):
        model.denoiser.compile()


def optimization(training: dict[str, Any], stage: str) -> dict[str, Any]:
    """The arguments of `train` that say how a stage is optimised, from the section `training`."""
    settings = training[stage]
    return {
        "steps": settings["steps"],
        "optimizer": instantiate(training["optimizer"], lr=settings["learning_rate"]),
        "schedule": settings["schedule"],
        "clip_norm": settings["clip_norm"],
        "checkpoint_every": training["checkpoint_every"],
        "log_every": training["log_every"],
    }


def load_model(config: dict[str, Any], dataset: Dataset, directory: Path, device: torch.device) -> LatentModel:
    """The trained model of a run directory, ready to sample.

    Raises:
        UserError: its checkpoint is missing, damaged or from another version.
    """
    model = build_model(config, dataset)
    load_weights(directory / WEIGHTS, model)
    return model.to(device).eval().requires_grad_(False)
