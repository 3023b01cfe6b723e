"""Files of an exported folder that no run has: what `hldm export` writes beside weights, and who loads them reads."""

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field

from hldm.config.conditioning import TextConditioning
from hldm.config.diffusion import DiffusionSampler as SamplerSection
from hldm.config.published import settings_in
from hldm.config.schema import RunConfig
from hldm.data import Dataset
from hldm.data.dataset import InMemorySplit
from hldm.diffusion import DiffusionSampler
from hldm.errors import UserError

WEIGHTS = "model.safetensors"
"""Weights of an exported folder, beside config.yaml and `FACTS`."""
FACTS = "data.json"
"""What a model has to know of its data set: the shape of an image, and the classes."""

SAMPLER = "sampler.json"
"""The sampler of a run, beside the pipeline of diffusers that it was exported as, which has no place for it."""

ANEW = "Copy the folder again from where it comes from, or export the run again: hldm export."
"""What to do about an exported folder that is damaged: who received it cannot train the run."""


class Facts(BaseModel):
    """The content of `FACTS`."""

    name: str
    image_shape: tuple[Annotated[int, Field(ge=1, le=2**20)], ...] = Field(min_length=1, max_length=3)
    class_names: tuple[str, ...] = Field(min_length=1)
    class_words: tuple[str, ...]


def known_dataset(folder: Path) -> Dataset:
    """A data set without images, of which the shape and the classes are those that an exported folder names.

    Raises:
        UserError: the folder names none.
    """
    try:
        facts = Facts.model_validate(settings_in(folder / FACTS))
    except ValueError as error:
        raise UserError(f"{folder} is no exported folder: {FACTS} is missing or damaged. {ANEW}") from error
    nothing = InMemorySplit(torch.zeros(0, *facts.image_shape, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64))
    return Dataset(facts.name, facts.image_shape, facts.class_names, nothing, nothing, nothing, facts.class_words)


def known_sampler(file: Path) -> DiffusionSampler:
    """The sampler that an exported pipeline names.

    Raises:
        UserError: it names none.
    """
    try:
        section = SamplerSection.model_validate(settings_in(file))
    except ValueError as error:
        raise UserError(f"{file} is damaged. {ANEW}") from error
    return DiffusionSampler(**{name: value for name, value, _ in section.fields()})


def with_text_model(config: RunConfig, folder: Path) -> RunConfig:
    """The configuration of an exported folder, and the text model that it reads with as this disk has it.

    Raises:
        UserError: it is neither in the folder nor in the cache of the hub.
    """
    text = config.conditioning
    if not isinstance(text, TextConditioning) or text.pretrained is None:
        return config
    inside = folder / Path(text.pretrained).name
    place = next((path for path in (inside, Path(text.pretrained)) if path.is_dir()), None)
    if place is None:
        from transformers.utils import cached_file

        try:
            file = cached_file(text.pretrained, "config.json", local_files_only=True)
        except (OSError, ValueError):
            file = None
        if file is None:
            raise UserError(
                f"{folder} reads text with {text.pretrained}, which is not in it. Copy that text model with its "
                f"tokenizer to {inside}, or download it to the cache of the hub."
            )
        place = Path(file).parent
    return config.model_copy(update={"conditioning": text.model_copy(update={"pretrained": str(place)})})
