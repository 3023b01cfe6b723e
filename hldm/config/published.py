"""What `first_stage=…` and `denoiser.folder=…` name: a run, or a folder in diffusers' format. Only data are read.

A published folder has config.json beside diffusion_pytorch_model.safetensors, or is a pipeline with one inside.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hldm.errors import UserError
from hldm.paths import expanded, root

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASSES = ("AutoencoderKL", "VQModel")
"""Classes of diffusers that a published folder may hold."""


FIRST_STAGE_PARTS = ("vqvae", "vae")
"""Folders in a pipeline of diffusers, of which one holds the first stage."""


def located(name: str, parts: tuple[str, ...] = FIRST_STAGE_PARTS) -> Path:
    """The absolute path: relative ones are looked for where the command was typed, then beside train.py.

    Args:
        parts: folders of which one is meant where the path is a whole pipeline.
    """
    places = (expanded(name).absolute(), root() / name)
    place = next((place for place in places if place.is_dir()), places[0])
    if any((place / file).is_file() for file in ("config.yaml", "config.json")):
        return place
    return next((place / part for part in parts if (place / part / "config.json").is_file()), place)


def is_run(path: Path) -> bool:
    """Whether the folder is a run of ours rather than a published autoencoder."""
    return (path / "config.yaml").is_file()


UNETS = ("UNet2DModel", "UNet2DConditionModel")


def architecture(path: Path, key: str = "first_stage") -> dict[str, Any] | None:
    """The content of config.json of a published folder, or what a run remembers of it; None where there is neither.

    Args:
        key: the setting that names the folder.

    Raises:
        UserError: it cannot be read, or a setting in it makes no sense.
    """
    file = path / ("config.yaml" if is_run(path) else "config.json")
    if is_run(path):
        try:
            content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise UserError(
                f"{key}={path}: its {file.name} cannot be read ({type(error).__name__}). Copy the folder anew."
            ) from error
        for part in ("autoencoder", "architecture"):
            content = content.get(part) if isinstance(content, Mapping) else None
        if not isinstance(content, Mapping):
            return None
    elif (content := settings_in(file)) is None:
        return None
    try:
        return dict(sound(content)) if content.get("_class_name") in (*CLASSES, *UNETS) else dict(content)
    except ValueError as error:
        raise UserError(f"{key}={path}: in its {file.name} {error}. Copy the folder anew.") from None


SCHEDULE = Path("scheduler") / "scheduler_config.json"
"""The noise schedule, in a pipeline."""


def schedule(file: Path) -> dict[str, Any] | None:
    """The content of a scheduler_config.json; None where there is no such file.

    Raises:
        UserError: it cannot be read, or a setting in it makes no sense.
    """
    content = settings_in(file)
    try:
        return None if content is None else dict(checked(content, OF_SCHEDULES))
    except ValueError as error:
        raise UserError(f"In {file} {error}. Copy the folder anew.") from None


def settings_in(file: Path) -> dict[str, Any] | None:
    """What a file of settings in JSON says; None where there is no such file.

    Raises:
        UserError: it is damaged, or holds no settings.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    # json goes into itself for each bracket
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read ({type(error).__name__}). Copy the folder anew.") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds no settings. Copy the folder anew.")
    return content


def scaling(content: Mapping[str, Any]) -> float:
    """What a process multiplies the latents of this config.json by; 1 of a VQModel with its class's default, .18215."""
    factor = content.get("scaling_factor") or 0.18215
    is_number = isinstance(factor, int | float) and factor > 0
    is_default = content.get("_class_name") == "VQModel" and factor == 0.18215
    return 1.0 if is_default or not is_number else float(factor)


def side(content: Mapping[str, Any], where: object) -> int:
    """Height and width that a model was made for, `sample_size`: a number, or two that are the same.

    Raises:
        UserError: it says none, or is not square.
    """
    size = content.get("sample_size")
    sides: list[Any] = list(size) if isinstance(size, list | tuple) else [size]
    if not all(map(_is_count, sides)) or len(set(sides)) != 1:
        raise UserError(
            f"sample_size={size} of {where} is not the side of a square. Write height and width, a whole number ≥ 1, "
            "into its config.json."
        )
    return int(sides[0])


# --------------------------------------------------------------------------------------------- what makes sense in them


class Rule(NamedTuple):
    """What a setting must be: in words, and whether a value is it."""

    words: str
    holds: Callable[[Any], bool]

    def or_null(self) -> "Rule":
        return Rule(f"{self.words}, or null", lambda value: value is None or self.holds(value))

    def in_list(self, count: int | None = None) -> "Rule":
        """A list of such values, with this many if that matters."""

        def holds(value: Any) -> bool:
            is_list = isinstance(value, list | tuple) and len(value) > 0 and count in (None, len(value))
            return is_list and all(map(self.holds, value))

        return Rule(f"a list with {self.words} at each place", holds)

    def __or__(self, other: "Rule") -> "Rule":
        return Rule(f"{self.words}, or {other.words}", lambda value: self.holds(value) or other.holds(value))


def _is_count(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


COUNT = Rule("a whole number ≥ 1", _is_count)
NAME = Rule("a name", lambda value: isinstance(value, str))
SWITCH = Rule("true or false", lambda value: isinstance(value, bool))
ACTIVATION = Rule("swish, silu, mish, gelu or relu", ("swish", "silu", "mish", "gelu", "relu").__contains__)
"""What diffusers can build."""

BETA = Rule("a number between 0 and 1", lambda value: _is_number(value) and 0 < value < 1)

LISTS = {"block_out_channels": COUNT.in_list(), "down_block_types": NAME.in_list(), "up_block_types": NAME.in_list()}
"""One entry a level, and in every config.json."""

OF_MODELS: dict[str, Rule] = LISTS | {
    **dict.fromkeys(("latent_channels", "in_channels", "out_channels", "num_vq_embeddings"), COUNT),
    **dict.fromkeys(("vq_embed_dim", "norm_num_groups"), COUNT.or_null()),
    **dict.fromkeys(("layers_per_block", "cross_attention_dim"), COUNT | COUNT.in_list()),
    "sample_size": (COUNT | COUNT.in_list(2)).or_null(),
    "act_fn": ACTIVATION,
    "scaling_factor": Rule("a number > 0", lambda value: _is_number(value) and value > 0).or_null(),
}
"""Settings of a model that decide about sizes, or that are calculated with."""

OF_SCHEDULES = {
    **dict.fromkeys(("beta_schedule", "prediction_type"), NAME),
    **dict.fromkeys(("beta_start", "beta_end"), BETA),
    **dict.fromkeys(("rescale_betas_zero_snr", "clip_sample", "set_alpha_to_one"), SWITCH.or_null()),
    "num_train_timesteps": COUNT,
    "trained_betas": Rule("a number", _is_number).in_list().or_null(),
    "timestep_spacing": Rule("leading, linspace or trailing", ("leading", "linspace", "trailing").__contains__),
    "steps_offset": Rule("a whole number ≥ 0", lambda value: _is_count(value, 0)),
}


def checked(content: Mapping[str, Any], rules: Mapping[str, Rule]) -> Mapping[str, Any]:
    """The content of a file of settings, of which those that are there are what these rules say.

    Raises:
        ValueError: one of them is not.
    """
    for key, rule in rules.items():
        if key in content and not rule.holds(content[key]):
            raise ValueError(f"{key} must be {rule.words}")
    return content


def sound(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content of a config.json, of which the settings make sense: torch is not asked to build anything else.

    Raises:
        ValueError: one of them does not.
    """
    checked({**dict.fromkeys(LISTS), **content}, OF_MODELS)
    if len({len(content[key]) for key in LISTS}) > 1:
        raise ValueError(f"{', '.join(LISTS)} must be of one length")
    return content


def latent_channels(content: Mapping[str, Any]) -> int:
    """Channels of the latents of a published autoencoder with this config.json."""
    channels: int = content.get("vq_embed_dim") or content.get("latent_channels") or 4
    return channels


def least_numbers(content: Mapping[str, Any]) -> int:
    """How many numbers the weights of a model with this config.json have at least: counted, as it may be of any size.

    Two convolutions of each ResNet block on the way down and up, and the codes of a VQModel; half of the former, so
    that no kind of block has fewer.
    """
    layers = content.get("layers_per_block", 1)
    depth = min(layers) if isinstance(layers, list | tuple) else layers
    codes = content.get("num_vq_embeddings", 0) * latent_channels(content)
    return int(depth * sum(9 * width**2 for width in content["block_out_channels"]) + codes)
