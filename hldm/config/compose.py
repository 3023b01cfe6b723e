"""conf/ and what was typed → the checked configuration of a run."""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict
from pydantic import ValidationError

from hldm.config import arguments, fits
from hldm.config.base import Section
from hldm.config.explain import sentences
from hldm.config.fits_networks import USUAL_SIDE, fitting_balls, fitting_side
from hldm.config.options import Options
from hldm.config.overrides import in_our_words, parsed, register_resolvers
from hldm.config.published import architecture, is_run, latent_channels, located
from hldm.config.schema import RunConfig
from hldm.errors import UserError
from hldm.paths import CONF


def compose(overrides: list[str]) -> RunConfig:
    """The checked configuration of one run, as `python train.py OVERRIDES` makes it."""
    options = Options()
    register_resolvers()
    given = arguments.read(overrides, options)
    with in_our_words(given, options), hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", [argument.hydra for argument in given])
        data = plain(composed)
    return checked(data, options)


def plain(composed: DictConfig) -> dict[str, Any]:
    """Hydra's composition as a dictionary without interpolations and without Hydra's own settings.

    Raises:
        omegaconf.errors.OmegaConfBaseException: an interpolation that cannot be resolved.
    """
    own = _own(composed)
    # OmegaConf's annotation covers lists and strings too; a DictConfig gives a dictionary
    return OmegaConf.to_container(own, resolve=True, throw_on_missing=True)  # type: ignore[return-value]  # a dict


def references(composed: DictConfig) -> set[str]:
    """The settings that interpolations refer to."""
    return set(re.findall(r"\$\{([A-Za-z_][\w.]*)\}", OmegaConf.to_yaml(composed)))


def _own(composed: DictConfig) -> DictConfig:
    """The composition without Hydra's own settings."""
    own = composed.copy()
    with open_dict(own):
        own.pop("hydra", None)
    return own


def checked(data: dict[str, Any], options: Options) -> RunConfig:
    """The typed configuration whose settings go together, or a UserError that names all that do not."""
    config = typed(data, options)
    if problems := list(fits.problems(config)):
        raise UserError.of(problems)
    return config


def typed(data: dict[str, Any], options: Options) -> RunConfig:
    """The typed configuration, or a UserError that names all settings whose value is wrong by itself."""
    data = _with_published(data)
    # a preset may have variables, such as latent_dim, which settings refer to: they have done their work
    if extra := data.keys() - RunConfig.model_fields.keys():
        data = {key: value for key, value in data.items() if key not in extra & options.variables}
    data, is_padded = _without_auto(data, USUAL_SIDE, "autoencoder", "padded_side")
    data, is_cut = _without_auto(data, 1, "geometry", "manifold", "balls")
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise UserError.of(sentences(error, RunConfig, data, options)) from None
    if is_padded:
        config = _with_value(config, fitting_side(config), "autoencoder", "padded_side")
    if is_cut:
        config = _with_value(config, fitting_balls(config), "geometry", "manifold", "balls")
    return config


def _with_value(section: Section, value: int, first: str, *path: str) -> Any:
    """The section with a value at this path."""
    inner = _with_value(getattr(section, first), value, *path) if path else value
    return section.model_copy(update={first: inner})


def _without_auto(data: Mapping[str, Any], value: int, first: str, *path: str) -> tuple[dict[str, Any], bool]:
    """The configuration with a value in the place of "auto" at this path, and whether "auto" was there."""
    inner = data.get(first)
    if not path:
        return ({**data, first: value}, True) if inner == "auto" else (dict(data), False)
    if not isinstance(inner, Mapping):
        return dict(data), False
    changed, is_auto = _without_auto(inner, value, *path)
    return {**data, first: changed}, is_auto


class Composer:
    """Composes the points of a grid: Hydra does it once for all that choose the same options.

    Args:
        load: Hydra's composition of a list of overrides.
        options: what there is to choose.
    """

    def __init__(self, load: Callable[[list[str]], DictConfig], options: Options) -> None:
        self.load, self.options = load, options
        self.templates: dict[tuple[str, ...], _Template] = {}

    def __call__(self, overrides: list[str]) -> RunConfig:
        """The typed configuration of one point; whether its settings go together is not looked at."""
        read = [parsed(override) for override in overrides]
        choices = tuple(
            override
            for override, own in zip(overrides, read, strict=True)
            if own.package is not None or own.key_or_group in self.options.groups
        )
        if choices not in self.templates:
            with in_our_words((), self.options):
                self.templates[choices] = _Template(self.load(list(choices)))
        template = self.templates[choices]
        values = {
            own.key_or_group: own.value()
            for override, own in zip(overrides, read, strict=True)
            if override not in choices and not own.key_or_group.startswith("hydra")
        }
        data = template.filled(values)
        if data is None:
            with in_our_words((), self.options):
                data = template.resolved(values)
        return typed(data, self.options)


class _Template:
    """A composition into which values are put: at once where nothing refers to them, else by OmegaConf."""

    def __init__(self, composed: DictConfig) -> None:
        self.composed = _own(composed)
        self.data = plain(composed)
        self.references = references(self.composed)

    def resolved(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The data with these values, and with what refers to them."""
        config = copy.deepcopy(self.composed)
        for key, value in values.items():
            OmegaConf.update(config, key, value)
        return plain(config)

    def filled(self, values: Mapping[str, Any]) -> dict[str, Any] | None:
        """The data with these values, or None where OmegaConf has to look at them."""
        data = dict(self.data)
        for key, value in values.items():
            is_read = any(f"{key}.".startswith(f"{r}.") or f"{r}.".startswith(f"{key}.") for r in self.references)
            if is_read or not isinstance(value, int | float | str | None) or (isinstance(value, str) and "$" in value):
                return None
            *parents, name = key.split(".")
            node = data
            for parent in parents:
                inner = node.get(parent)
                if not isinstance(inner, dict):
                    return None
                node[parent] = node = dict(inner)
            if name not in node or isinstance(node[name], dict) or value == "???":
                return None
            node[name] = value
        return data


def _with_published(data: dict[str, Any]) -> dict[str, Any]:
    """Paths to published weights are made absolute, and what lies there says itself what it is."""
    return _with_first_stage(_with_denoiser(data))


def _with_denoiser(data: dict[str, Any]) -> dict[str, Any]:
    denoiser = data.get("denoiser")
    folder = denoiser.get("folder") if isinstance(denoiser, Mapping) else None
    if not isinstance(denoiser, Mapping) or not isinstance(folder, str) or not folder:
        return data
    path = located(folder, ("unet",))
    content = None if is_run(path) else architecture(path, "denoiser.folder")
    own = {"folder": str(path)} | ({} if content is None else {"architecture": content})
    return {**data, "denoiser": {**denoiser, **own}}


def _with_first_stage(data: dict[str, Any]) -> dict[str, Any]:
    name, autoencoder = data.get("first_stage"), data.get("autoencoder")
    if not isinstance(name, str) or not name or not isinstance(autoencoder, Mapping):
        return data
    path = located(name)
    data = {**data, "first_stage": str(path)}
    if "architecture" in autoencoder and (content := architecture(path)):
        own = {"architecture": content, "latent_channels": latent_channels(content)}
        data["autoencoder"] = {**autoencoder, **own}
        # its manifold was composed before the folder was looked at
        geometry = data.get("geometry")
        manifold = geometry.get("manifold") if isinstance(geometry, Mapping) else None
        if isinstance(geometry, Mapping) and isinstance(manifold, Mapping) and "channels" in manifold:
            channels = {**manifold, "channels": own["latent_channels"]}
            data["geometry"] = {**geometry, "manifold": channels}
    return data
