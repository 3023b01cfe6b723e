"""Hydra's reading of one argument, its own settings and what it raises, in our words."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hldm.config.habits import habit
from hldm.config.options import Options
from hldm.console import closest
from hldm.errors import UserError
from hldm.paths import root

HYDRAS_OWN = {
    "hydra/launcher": ("local", "slurm"),
    "hydra/sweeper": ("grid", "basic"),
    "hydra.searchpath": (),
    "hydra.verbose": (),
}
"""Settings of Hydra's that mean something here → the values that do, none where any does.

Other launchers and sweepers would call this process's function once for every point, which starts no run.
"""


def register_resolvers() -> None:
    """What `${hldm.…}` means in conf/. Every composition needs it."""
    OmegaConf.register_new_resolver("hldm.root", lambda: str(root()), replace=True)
    OmegaConf.register_new_resolver("hldm.minus", lambda a, b: a - b, replace=True)
    OmegaConf.register_new_resolver("hldm.half", lambda a: a // 2, replace=True)
    OmegaConf.register_new_resolver("hldm.site", _of_site, replace=True)


def _of_site(key: str, usual: Any, more: Any = None, *, _parent_: Any) -> Any:
    from hldm.config import site  # late: only jobs of SLURM have a site

    value = site.setting(key, usual, str(_parent_.get("option")))
    if more is not None:  # entries of a mapping that were typed one by one
        value = {**value, **{name: unquote(item) if isinstance(item, str) else item for name, item in more.items()}}
    return OmegaConf.create(value, parent=_parent_) if isinstance(value, dict | list) else value


@dataclass(frozen=True)
class Argument:
    """One `key=value`: as it was typed, and as Hydra understands it."""

    typed: str
    hydra: str
    key: str


@lru_cache(maxsize=4096)
def parsed(argument: str) -> Override:
    """Hydra's reading of one argument.

    Raises:
        UserError: it is not `key=value`.
    """
    try:
        override = OverridesParser.create().parse_override(argument)
        if not override.key_or_group:
            raise ValueError
        return override
    except (HydraException, ValueError, ZeroDivisionError) as error:
        if argument.startswith("~/") or (argument.startswith("~") and "=" not in argument and "/" in argument):
            hint = " A path is the value of a setting, as in paths.outputs=outputs."
        else:
            hint = ""
        raise UserError(
            f"{argument!r} cannot be read as key=value.{hint} Type for example seed=3, or geometry=poincare; a value "
            "with special characters needs quotes inside the shell's, as in 'paths.outputs=\"my outputs\"'."
        ) from error


def refuse_hydras_own(typed: str, override: Override) -> None:
    key, value = override.key_or_group, override.value()
    if key.startswith("hydra.sweeper.params"):
        name = key.removeprefix("hydra.sweeper.params").lstrip(".") or "seed"
        raise UserError(f"{typed} belongs into a file of conf/sweep/. Type the grid itself: -m {name}=a,b.")
    if key in ("hydra/launcher", "hydra.launcher"):
        refuse_launcher(value)
    if key.startswith("hydra.launcher."):
        name, value = key.removeprefix("hydra.launcher."), typed.partition("=")[2]
        raise UserError(
            f"{typed} is a setting of another launcher. Jobs of SLURM are a choice of hardware here, with the same "
            f"settings: type hardware=slurm_gpu hardware.slurm.{name}={value}. `python train.py hardware=slurm_gpu "
            "--cfg job` shows all there are."
        )
    if key not in HYDRAS_OWN or (HYDRAS_OWN[key] and value not in HYDRAS_OWN[key]):
        raise UserError(
            f"{typed} is Hydra's, and runs do not follow it. They lie in <paths.outputs>/<study>/<run>: type "
            "paths.outputs=… or study=…; -m makes a grid, and hardware=… says where it works."
        )


def refuse_launcher(name: Any) -> None:
    """Raise a UserError for a launcher of Hydra's that starts no runs, typed or set by a preset."""
    if name in HYDRAS_OWN["hydra/launcher"]:
        return
    if str(name) == "submitit_slurm":
        raise UserError(
            "hydra/launcher=submitit_slurm is here a choice of hardware, with the same settings under the same names: "
            "type hardware=slurm_gpu for a GPU per run, or hardware=slurm_cpu, and hardware.slurm.partition=… and the "
            "like. It submits through submitit, and returns."
        )
    raise UserError(
        f"hydra/launcher={name} is a launcher that cannot start these runs. Where runs work is chosen by "
        "hardware=…: hardware=auto, cpu or gpu, or slurm_gpu and slurm_cpu for jobs of SLURM."
    )


def unknown(key: str, options: Options) -> str:
    """What to say of a setting that this run does not have."""
    if where := options.keys.get(key):
        return f"{key} is a setting of {' and '.join(where)} only. Choose that, or leave {key} away."
    if sentence := habit(key):
        return sentence
    guess = closest(key, options.keys)
    hint = f" Did you mean {guess}=…?" if guess else ""
    return f"There is no setting {key}.{hint} `python train.py --cfg job` shows all that there are."


def needs_grid(typed: str) -> str:
    """What to say where several values stand and `-m` does not."""
    return (
        f"{typed} names several values, which is a grid of runs: type -m after train.py, as in "
        f"`python train.py -m {typed}`. If one value was meant that is a list, type it in brackets: key=[0,1]."
    )


@contextmanager
def in_our_words(given: Sequence[Argument], options: Options) -> Iterator[None]:
    """What Hydra or OmegaConf raises in the block → a UserError that says what was wrong and what to type."""
    try:
        yield
    except UserError:
        raise
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeError) as error:
        raise _in_our_words(error, given, options) from error


def _in_our_words(error: Exception, arguments: Sequence[Argument], options: Options) -> UserError:
    text = " ".join(f"{error} {error.__cause__ or ''}".split()).partition(" Config search path:")[0]
    # one of the two may be the section that was to hold the key
    if keys := re.findall(r"(?:not in struct full_key: |Could not override ')([^\s']+)", text):
        return UserError(unknown(max(keys, key=len).partition("@")[0], options))
    if found := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'", text):
        return UserError(needs_grid(next((a.typed for a in arguments if a.hydra == found[1]), found[1])))
    if found := re.search(r"Error merging override (.+?) Cannot merge .*?full_key: (\S+)", text):
        return UserError(
            f"{found[1]} is another kind of value than {found[2]} has. `python train.py --cfg job` shows it."
        )
    if missing := re.search(r"Missing mandatory value: (\S+)", text):
        return UserError(f"{missing[1]} has no value. Type {missing[1]}=….")
    if found := re.search(r"Environment variable '(.+?)' not found.*full_key: (\S+)", text):
        name, key = found[1], found[2]
        return UserError(f"{key} is taken from the environment variable {name}, which is not set. Type {key}=….")
    if isinstance(error, yaml.YAMLError | UnicodeError):
        text = f"A file of options is not YAML: {text}."
    return UserError(f"{text} `python train.py --help` lists groups and options, `--cfg job` all settings.")
