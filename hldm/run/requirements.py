"""What a run needs from outside: files, folders and a first stage. Looked at before any work, without torch."""

import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from hldm.config import fits
from hldm.config.archives import Archived
from hldm.config.base import Section
from hldm.config.conditioning import TextConditioning, text_folders
from hldm.config.dataset import MNIST, Omniglot
from hldm.config.diffusion import PublishedUNet
from hldm.config.idx_files import MNIST_MD5, read_idx
from hldm.config.metrics import (
    DigitClassifier,
    DigitFeatures,
    DINOv2Features,
    InceptionFeatures,
    UnlabelledFeatures,
    Weights,
)
from hldm.config.omniglot_files import read_drawings, training_images
from hldm.config.options import Options
from hldm.config.pictures import LSUN, Folder, HuggingFace
from hldm.config.schema import RunConfig
from hldm.config.weights import (
    check_digit_weights,
    check_dinov2_weights,
    check_inception_weights,
    check_unlabelled_weights,
    check_vgg_weights,
)
from hldm.errors import UserError
from hldm.run import given

CHECKS: dict[type[Section], Callable[[str | None], object]] = {
    DigitClassifier: check_digit_weights,
    DigitFeatures: check_digit_weights,
    UnlabelledFeatures: check_unlabelled_weights,
    InceptionFeatures: check_inception_weights,
    DINOv2Features: check_dinov2_weights,
}
"""Part of the metrics → what looks at its file of weights."""


def refuse(configs: Iterable[RunConfig], options: Options) -> None:
    """Raise a UserError that names all settings that do not go together and all that is missing."""
    if found := list(of_all(configs, options)):
        raise UserError.of(found)


def of_all(configs: Iterable[RunConfig], options: Options) -> Iterator[str]:
    """The problems of many points; what they share is looked at once."""
    looked_at: set[str] = set()
    for config in configs:
        yield from fits.problems(config)
        for reads, problems in needs(config, options):
            key = repr(reads)
            if key not in looked_at:
                looked_at.add(key)
                yield from problems


def needs(config: RunConfig, options: Options) -> Iterator[tuple[tuple[object, ...], Iterator[str]]]:
    """(what is read of the configuration, a sentence for each thing that is not there or not what it should be)."""
    if config.first_stage:
        own = (config.autoencoder, config.geometry, config.curvature)
        yield ("first_stage", config.first_stage, config.dataset, *own), given.problems(config, options)
    if config.has_diffusion and isinstance(config.denoiser, PublishedUNet):
        yield ("denoiser", config.denoiser.folder), given.problems_of_unet(config)
    if isinstance(config.dataset, MNIST) and config.dataset.folder is not None:
        yield ("dataset", config.dataset.folder), _idx_files(config.dataset.folder)
    if isinstance(config.dataset, Archived | Folder | LSUN | HuggingFace):
        yield ("dataset", config.dataset), (said for said in [config.dataset.missing()] if said)
    if isinstance(config.dataset, Omniglot):
        samples = config.metrics.samples if config.metrics.extractors else None
        yield ("dataset", config.dataset, samples), _drawings(config.dataset, samples)
    if isinstance(config.conditioning, TextConditioning) and config.has_diffusion:
        yield ("conditioning", config.conditioning.pretrained), _text_model(config.conditioning.pretrained)
    first_stage = config.first_stage or config.training.first_stage
    metrics = config.metrics
    parts = (*metrics.extractors, metrics.classifier, metrics.perceptual_weights, first_stage)
    yield ("weights", *parts), _weights(config)


def _weights(config: RunConfig) -> Iterator[str]:
    metrics = config.metrics
    for part in (*metrics.extractors, metrics.classifier):
        if isinstance(part, Weights) and (check := CHECKS.get(type(part))):
            yield from _refused(partial(check, part.weights))
    if (perceptual := metrics.perceptual_weights) is not None:
        yield from _refused(lambda: check_vgg_weights(perceptual, metric=True))
    backbone = config.training.first_stage.perceptual_backbone
    if config.first_stage is None and config.training.first_stage.uses_lpips:
        yield from _refused(lambda: check_vgg_weights(backbone))
    elif backbone is not None and not Path(backbone).is_file():
        key = "training.first_stage.perceptual_backbone"
        yield f"{key}={backbone} does not exist. It must be a file, or null: leave {key} away."


def _refused(check: Callable[[], object]) -> Iterator[str]:
    try:
        check()
    except UserError as error:
        yield str(error)


def _idx_files(folder: str) -> Iterator[str]:
    if not Path(folder).is_dir():
        yield (
            f"dataset.folder={folder} does not exist. Give a folder that does, or dataset.folder=null for the bundled "
            "digits."
        )
        return
    missing = [name for name in MNIST_MD5 if not any((Path(folder) / f"{name}{end}").is_file() for end in ("", ".gz"))]
    if missing:
        yield (
            f"dataset.folder={folder} lacks {', '.join(missing)} (packed as .gz or not). Leave out dataset.folder to "
            "use the bundled digits, or name a folder with the four original files."
        )
        return
    for name in MNIST_MD5:
        yield from _refused(partial(read_idx, Path(folder), name))


def _drawings(dataset: Omniglot, samples: int | None) -> Iterator[str]:
    try:
        drawings = read_drawings(dataset)
    except UserError as error:
        yield str(error)
        return
    if samples is not None and samples > (most := training_images(drawings, dataset)):
        yield (
            f"metrics.samples={samples} asks for more real images than the training set has, for the floor: there "
            f"are {most}. Try metrics.samples={min(1500, most)}."
        )


def _text_model(name: str | None) -> Iterator[str]:
    """A pretrained text model is a folder that `save_pretrained` wrote, or has a name that a hub could know."""
    if name is None:
        return
    folder = Path(name)
    if folder.is_dir():
        words, weights = text_folders(name)
        missing = [] if (weights / "config.json").is_file() else ["config.json"]
        missing += [] if any(weights.glob("*.safetensors")) else ["*.safetensors"]
        missing += [] if any((words / file).is_file() for file in ("tokenizer.json", "vocab.json")) else ["vocab.json"]
        if missing:
            yield (
                f"conditioning.pretrained={name} lacks {', '.join(missing)}. It must be a CLIP text model and its "
                "tokenizer, as `save_pretrained` of transformers writes both; other formats of weights are not read."
            )
    elif not re.fullmatch(r"(?=.*[A-Za-z])[\w-][\w.-]*(/[\w-][\w.-]*)?", name):
        yield (
            f"conditioning.pretrained={name} is not a folder that is there, nor a name on the hub such as "
            "openai/clip-vit-base-patch32. Give one of them, or conditioning.pretrained=null for none."
        )
