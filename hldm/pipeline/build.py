"""Configuration → objects. What is below this file sees sections, never a whole configuration."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from hldm.autoencoder import Autoencoder, VariationalAutoencoder
from hldm.config import fits_samplers, fits_samples
from hldm.config.base import Section
from hldm.config.schema import Hardware, RunConfig
from hldm.config.training import FirstStage, Stage, Training
from hldm.data import Dataset
from hldm.errors import UserError
from hldm.geometry import Curvature
from hldm.model import LatentDiffusion, LatentModel, PriorModel
from hldm.resources import cores
from hldm.run.directory import MODEL
from hldm.run.scratch import on_this_node
from hldm.spaces import curvature_of, manifold_of
from hldm.training import initialised, load_weights, ranks
from hldm.training.networks import Way, set_way


def build(section: Section, **parts: Any) -> Any:
    """The object that a section describes. Only classes that the schema knows can be named there.

    Args:
        parts: what depends on other sections, or on the data.
    """
    make = section.described()
    if section.takes_section:
        return make(section, **parts)
    return make(**{name: value for name, value, _ in section.fields()}, **parts)


def choose_device(hardware: Hardware) -> torch.device:
    """The device that `hardware` asks for, with threads and determinism set up for it.

    Raises:
        UserError: a GPU is asked for and there is none that works.
    """
    # whoever started the run wrote the number down; "auto" is left where the pipeline is called directly
    torch.set_num_threads(cores() if hardware.threads == "auto" else hardware.threads)
    available = torch.cuda.is_available()
    if hardware.device == "cuda" and not available:
        raise UserError(
            "hardware.device=cuda, but PyTorch finds no working GPU here. Use hardware=cpu or hardware=auto."
        )
    if hardware.device == "cpu" or not available:
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    return ranks.local_device()


def device_to_look_with(hardware: Hardware) -> torch.device:
    """`choose_device` for a finished run, which may be of another machine: the processor where its GPU is not here."""
    if hardware.device == "cuda" and not torch.cuda.is_available():
        print("This run was trained on a GPU, and PyTorch finds none that works here: the processor is used.")
        hardware = hardware.model_copy(update={"device": "cpu"})
    return choose_device(hardware)


def build_dataset(config: RunConfig) -> Dataset:
    """The data set of a run.

    Raises:
        UserError: it cannot be read, or its pictures are not what the metrics look at: before anything is trained.
    """
    dataset: Dataset = build(_on_this_node(config.dataset), **_from_files(config))
    if dataset.has_pictures:
        channels, height, width = dataset.image_shape
        found = [
            *(_too_few(config, dataset) if config.dataset.reads_files else ()),
            *fits_samples.pictures(config.metrics, (channels, height, width)),
            *fits_samples.class_samples(config.metrics, dataset.classes),
            *(fits_samplers.chosen_on_nothing(config) if len(dataset.validation) < fits_samples.MIN_SAMPLES else ()),
        ]
        if found:
            raise UserError.of(found)
    return dataset


def _too_few(config: RunConfig, dataset: Dataset) -> Iterator[str]:
    yield from fits_samples.judged_by(config, len(dataset.reference))
    yield from fits_samples.amounts(config, len(dataset.train), len(dataset.test), len(dataset.for_floor))


def _from_files(config: RunConfig) -> dict[str, Any]:
    """What a data set that reads files is given beside its section."""
    if not config.dataset.reads_files:
        return {}
    readers = torch.get_num_threads() if config.hardware.readers == "auto" else config.hardware.readers
    return {"cache": Path(config.paths.outputs) / "data", "readers": readers}


def _on_this_node(section: Section) -> Section:
    """The section with the files that it names where this node reads them fast."""
    named = {name: value for name, value, _ in section.fields() if isinstance(value, str) and os.path.isabs(value)}
    copies = {name: str(on_this_node(Path(value))) for name, value in named.items() if os.path.exists(value)}
    return section.model_copy(update=copies)


def references(config: RunConfig) -> Path:
    """The folder in which features of real images are kept for all runs of these outputs."""
    return Path(config.paths.outputs) / "references"


def build_model(config: RunConfig, dataset: Dataset, curvature: Curvature | None = None) -> LatentModel:
    """The untrained model. Each part's initial weights depend on the seed alone, so all geometries share them.

    Args:
        config: one run.
        dataset: gives the shape of an image and the classes.
        curvature: of all balls, made from the configuration by default.
    """
    curvature = curvature or curvature_of(config.curvature)
    autoencoder = build_autoencoder(config, dataset, curvature)
    model: LatentModel
    if config.has_diffusion:
        model = build_diffusion(config, dataset, autoencoder, curvature)
    else:
        assert isinstance(autoencoder, VariationalAutoencoder)  # the check refuses others
        model = PriorModel(autoencoder)
    ranks.share_networks(model)
    return model


def build_autoencoder(config: RunConfig, dataset: Dataset, curvature: Curvature) -> Autoencoder:
    """The first stage, whose balls have this curvature."""
    autoencoder: Autoencoder = initialised(
        config.seed,
        "autoencoder",
        lambda: build(
            config.autoencoder,
            manifold=manifold_of(config.geometry.manifold, curvature),
            decoder_stem=config.geometry.decoder_stem,
            image_shape=dataset.image_shape,
        ),
    )
    return autoencoder


def build_diffusion(
    config: RunConfig, dataset: Dataset, autoencoder: Autoencoder, curvature: Curvature
) -> LatentDiffusion:
    """The second stage on an autoencoder. A conditioning on balls takes the curvature as it is now."""
    process, sampler = config.diffusion.process, config.diffusion.sampler
    assert process is not None
    assert sampler is not None
    conditioning = initialised(
        config.seed,
        "conditioning",
        lambda: build(config.conditioning, class_names=dataset.class_words, curvature=curvature),
    )
    denoiser = initialised(
        config.seed,
        "denoiser",
        lambda: build(
            config.denoiser,
            layout=autoencoder.layout,
            classes=dataset.classes,
            context_channels=conditioning.context_channels,
            label_embedding=conditioning.label_embedding,
        ),
    )
    return LatentDiffusion(autoencoder, denoiser, build(process), build(sampler), conditioning)


def prepare_training(model: LatentModel, config: RunConfig) -> None:
    """Let the networks of a model on its device work as `training` and `hardware` say, and compile them if they do."""
    training, hardware = config.training, config.hardware
    way = Way(training.precision == "bfloat16", training.microbatch, hardware.recompute, hardware.channels_last)
    if way != Way():
        set_way(model, way)
    if hardware.compile:
        compile_training(model)


def compile_training(model: LatentModel) -> None:
    """Put under torch.compile what a training step spends its time on: the loss of a variational autoencoder as a
    function of images and noise, and the denoiser. Results differ in the last digits."""
    if isinstance(model.autoencoder, VariationalAutoencoder):
        model.autoencoder.compile()
    if isinstance(model, LatentDiffusion):
        model.denoiser.compile()


def optimization(training: Training, stage: Stage) -> dict[str, Any]:
    """The arguments of `train` that say how a stage is optimised."""
    own = stage.optimizer if isinstance(stage, FirstStage) else None
    optimizer = own or training.optimizer
    settings = {name: value for name, value, _ in optimizer.fields()}
    make = optimizer.described()
    return {
        "steps": stage.steps,
        "make_optimizer": lambda parameters: make(parameters, lr=stage.learning_rate, **settings),
        "schedule": stage.schedule,
        "clip_norm": stage.clip_norm,
        "checkpoint_every": training.checkpoint_every,
        "checkpoint_minutes": training.checkpoint_minutes,
        "log_every": training.log_every,
        "look_every": training.validate_every or 1,
    }


def load_model(config: RunConfig, dataset: Dataset, directory: Path, device: torch.device) -> LatentModel:
    """The trained model of a run directory, ready to sample.

    Raises:
        UserError: its checkpoint is missing, damaged or from another version.
    """
    model = build_model(config, dataset)
    load_weights(directory / MODEL, model)
    return model.to(device).eval().requires_grad_(False)
