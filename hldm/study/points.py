"""The points of a grid: from what is typed after `train.py -m`, and from a named sweep, to configurations."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from hldm.config import arguments
from hldm.config.compose import Composer
from hldm.config.options import PRESETS, Options
from hldm.config.overrides import Argument, in_our_words, parsed, register_resolvers
from hldm.config.schema import RunConfig
from hldm.paths import CONF
from hldm.study.grid import checked


def options_of(config: DictConfig) -> Options:
    """What there is to choose where Hydra found this configuration: also options of --config-dir."""
    sources = (source for source in config.hydra.runtime.config_sources if source.schema == "file" and source.path)
    return Options(*(Path(source.path) for source in sources))


def combinations(params: Mapping[str, Any] | None, given: Sequence[str], options: Options) -> list[list[str]]:
    """Every combination of the values, as overrides for Hydra; the last setting changes fastest.

    Args:
        params: setting → values of a named sweep, written as on the command line.
        given: arguments in Hydra's form; they count instead of the sweep's values of the same setting.
        options: what there is to choose.

    Raises:
        UserError: they are more than a grid has.
    """
    axes = [_axis(text) for text in texts_of(params, given, options)]
    arguments.refuse_too_many(axes)
    return [list(point) for point in itertools.product(*axes)]


def texts_of(params: Mapping[str, Any] | None, given: Sequence[str], options: Options) -> list[str]:
    """What a named sweep and a command give together, as overrides for Hydra; arguments as for `combinations`."""
    # a search may be a named sweep too; what is none refuses intervals later
    own = arguments.read(["search=tpe", *(f"{key}={values}" for key, values in (params or {}).items())], options)[1:]
    settings = {parsed(text).key_or_group for text in given}
    texts = [argument.hydra for argument in own if parsed(argument.hydra).key_or_group not in settings]
    return [*texts, *given]


def _axis(text: str) -> list[str]:
    override = parsed(text)
    arguments.refuse_interval(Argument(text, text, override.key_or_group))
    if not override.is_sweep_override():
        return [text]
    return [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]


def points_of(typed: list[str]) -> list[tuple[tuple[str, ...], RunConfig]]:
    """(overrides, checked configuration) of every point that `python train.py -m TYPED` runs.

    Raises:
        UserError: an argument or a point is wrong, or what a point needs is not there.
    """
    options = Options()
    register_resolvers()
    given = arguments.read(typed, options, is_grid=True)
    texts = [argument.hydra for argument in given]
    presets = [a.hydra for a in given if a.key in PRESETS and not parsed(a.hydra).is_sweep_override()]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        with in_our_words(given, options):
            sweeper = hydra.compose("config", presets, return_hydra_config=True).hydra.sweeper
        overrides = combinations(sweeper.params, texts, options)
        compose = Composer(lambda point: hydra.compose("config", point), options)
        configs = [config for _, config in checked(overrides, compose, options)]
    return [(tuple(point), config) for point, config in zip(overrides, configs, strict=True)]
