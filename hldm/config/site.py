"""The profile of a site: what holds for every job on one cluster, outside the repository.

~/.config/hldm/site.yaml, or the file that HLDM_SITE names, has settings of `hardware.slurm` at its top, for all jobs,
and under slurm_cpu, slurm_gpu and slurm_ddp what counts before those for one option of hardware=…. What is typed counts
before all of it. slurm/profiles/ has examples.
"""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from hldm.config.explain import sentences
from hldm.config.options import Options
from hldm.config.slurm import Slurm
from hldm.console import closest
from hldm.errors import UserError
from hldm.paths import expanded

OPTIONS: tuple[str, ...] = get_args(Slurm.model_fields["option"].annotation)

KEYS = [name for name in Slurm.model_fields if name != "option"]


def file() -> Path | None:
    """The profile, None where there is none.

    Raises:
        UserError: HLDM_SITE names a file that is not there.
    """
    named = os.environ.get("HLDM_SITE")
    if named:
        path = expanded(named)
        if not path.is_file():
            raise UserError(
                f"HLDM_SITE={named} is not a file. Name a profile of your site, such as a copy of one in "
                "slurm/profiles/, or unset HLDM_SITE."
            )
        return path
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    try:
        usual = expanded(home) / "hldm" / "site.yaml"
    except UserError:  # a user without a home folder has no profile
        return None
    return usual if usual.is_file() else None


def setting(key: str, usual: Any, option: str) -> Any:
    """What the profile says of a setting for an option of hardware=…, or `usual` where it says nothing."""
    path = file()
    if path is None:
        return usual
    profile = _read(path, path.stat().st_mtime_ns)
    return {**profile, **(profile.get(option) or {})}.get(key, usual)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> dict[str, Any]:
    """The profile, checked.

    Raises:
        UserError: it is not YAML, has an unknown setting or a wrong value.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}, the profile of the site, cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}, the profile of the site, must hold settings, a `name: value` each.")
    general = {key: value for key, value in content.items() if key not in OPTIONS}
    wrong = [*_problems(general, "")]
    for option in OPTIONS:
        part = content.get(option)
        if part is not None and not isinstance(part, dict):
            wrong.append(f"{option} must hold settings, a `name: value` each.")
        elif part:
            wrong += _problems(part, f"{option}.")
    if wrong:
        raise UserError.of(f"{path}, the profile of the site: {problem}" for problem in wrong)
    return content


def _problems(part: dict[str, Any], prefix: str) -> list[str]:
    wrong = []
    for key in part:
        if key not in KEYS:
            guess = closest(str(key), [*KEYS, *OPTIONS])
            wrong.append(
                f"there is no setting {prefix}{key}."
                + (f" Did you mean {prefix}{guess}?" if guess else f" Settings: {', '.join(KEYS)}.")
            )
    known = {key: value for key, value in part.items() if key in KEYS}
    try:
        Slurm.model_validate(known)
    except ValidationError as error:
        wrong += [prefix + sentence for sentence in sentences(error, Slurm, known, Options())]
    return wrong
