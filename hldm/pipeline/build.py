"""Configuration → objects. What is below this file sees sections, never a whole configuration."""

import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate as hydra_instantiate

from hldm.autoencoder import Autoencoder, VariationalAutoencoder
from hldm.config.base import Section
from hldm.config.schema import RunConfig
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.geometry import Curvature
from hldm.model import LatentDiffusion, LatentModel, PriorModel
from hldm.spaces import curvature_of, manifold_of
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
    dataset: Dataset = instantiate(config["dataset"])
    return dataset


def build_model(config: RunConfig | dict[str, Any], dataset: Dataset) -> LatentModel:
    """The untrained model. Each part's initial weights depend on the seed alone, so all geometries share them.

    Args:
        config: one run.
        dataset: gives the shape of an image and the number of classes.
    """
    config = sections_of(config) if isinstance(config, dict) else config
    curvature = curvature_of(config.curvature)
    autoencoder = build_autoencoder(config, dataset, curvature)
    if not config.has_diffusion:
        assert isinstance(autoencoder, VariationalAutoencoder)  # the check refuses others
        return PriorModel(autoencoder)
    return build_diffusion(config, dataset, autoencoder, curvature)


def build_autoencoder(config: RunConfig, dataset: Dataset, curvature: Curvature) -> Autoencoder:
    """The first stage, whose balls have this curvature."""
    return initialised(
        config.seed,
        "autoencoder",
        lambda: made(
            config.autoencoder,
            manifold=manifold_of(config.geometry.manifold, curvature),
            decoder_stem=config.geometry.decoder_stem,
            image_shape=tuple(dataset.train_images.shape[1:]),
        ),
    )


def build_diffusion(
    config: RunConfig, dataset: Dataset, autoencoder: Autoencoder, curvature: Curvature
) -> LatentDiffusion:
    """The second stage on an autoencoder. A conditioning on balls takes the curvature as it is now."""
    conditioning = initialised(
        config.seed,
        "conditioning",
        lambda: made(config.conditioning, class_names=dataset.class_words, curvature=curvature),
    )
    denoiser = initialised(
        config.seed,
        "denoiser",
        lambda: made(
            config.denoiser,
            layout=autoencoder.layout,
            classes=dataset.classes,
            context_channels=conditioning.context_channels,
            label_embedding=conditioning.label_embedding,
        ),
    )
    process, sampler = config.diffusion.process, config.diffusion.sampler
    assert process is not None
    assert sampler is not None
    return LatentDiffusion(
        autoencoder, denoiser, instantiate(process.dump()), instantiate(sampler.dump()), conditioning
    )


def made(section: Section, **arguments: Any) -> Any:
    """The object that a section describes and that takes the section itself."""
    assert section.target is not None
    return resolve_name(section.target)(section, **arguments)


def sections_of(config: dict[str, Any]) -> RunConfig:
    """The typed configuration of a run whose config.yaml was written before there were sections."""
    config = {name: value for name, value in config.items() if name not in ("metrics", "training")}
    config["geometry"] = _without_curvature(config["geometry"])
    denoiser = {**config["denoiser"]}
    denoiser["_target_"] = denoiser["_target_"].replace("diffusion.Denoiser", "diffusion.UNetDenoiser")
    if "curvature" in denoiser:
        kind = "LearnableCurvature" if denoiser.pop("learnable_curvature", False) else "FixedCurvature"
        denoiser["curvature"] = {"_target_": f"hldm.geometry.{kind}", "value": denoiser["curvature"]}
    config["denoiser"] = denoiser
    return RunConfig.model_validate(config)


def _without_curvature(section: Any) -> Any:
    if isinstance(section, list):
        return [_without_curvature(item) for item in section]
    if isinstance(section, dict):
        return {name: _without_curvature(value) for name, value in section.items() if name != "curvature"}
    return section


def compile_training(model: LatentModel) -> None:
    """Put under torch.compile what a training step spends its time on: the loss of a variational autoencoder as a
    function of images and noise, and the denoiser. Results differ in the last digits."""
    if isinstance(model.autoencoder, VariationalAutoencoder):
        model.autoencoder.compile()
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
