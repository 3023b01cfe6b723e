"""What can be typed: the groups of conf/, their options, and the settings that stand in their files."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from hldm.errors import UserError
from hldm.paths import CONF

PRESETS = ("ablation", "experiment", "sweep")
"""Groups that stand over the others: their options choose options and values of the other groups."""


LEAVES_RESULT = frozenset({"hardware", "paths", "search", "study", "tracking"})
"""Sections that cannot change a result: identity leaves them out, and a sweep over them means nothing."""


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Options:
    """The options in several folders, of which the first one that has an option counts.

    Args:
        folders: laid out like conf/. As for Hydra, what comes with the project counts first: an option of your own has
            a name of its own.
    """

    def __init__(self, *folders: Path) -> None:
        self.folders = tuple(dict.fromkeys((CONF, *folders, *extension_folders())))

    @cached_property
    def groups(self) -> dict[str, dict[str, Path]]:
        """Group → option → its file: what `geometry=poincare` can name."""
        groups: dict[str, dict[str, Path]] = {}
        for folder in self.folders:
            for group in sorted(path for path in folder.iterdir() if path.is_dir()):
                name = group.name
                for file in sorted(group.glob("*.yaml")):
                    groups.setdefault(name, {}).setdefault(file.stem, file)
                for file in sorted(group.glob("*/*.yaml")):  # hydra/launcher
                    groups.setdefault(f"{name}/{file.parent.name}", {}).setdefault(file.stem, file)
        return groups

    @property
    def of_runs(self) -> dict[str, dict[str, Path]]:
        """The groups that are about a run rather than about Hydra."""
        return {name: options for name, options in self.groups.items() if not name.startswith("hydra")}

    @cached_property
    def keys(self) -> dict[str, list[str]]:
        """Every setting → the options that have it, as `geometry=hybrid`; empty for those of conf/config.yaml."""
        known: dict[str, list[str]] = {key: [] for key in self.settings(CONF / "config.yaml")}
        for group, options in self.of_runs.items():
            known.setdefault(group, [])
            if group not in PRESETS:
                for option, file in options.items():
                    for key in self.settings(file):
                        known.setdefault(key, []).append(f"{group}={option}")
        return known

    @cached_property
    def variables(self) -> set[str]:
        """Names that settings of presets refer to, such as latent_dim of the Poincaré VAE."""
        files = (file for preset in PRESETS for file in self.groups.get(preset, {}).values())
        return {name for file in files for name in re.findall(r"\$\{(\w+)\}", file.read_text(encoding="utf-8"))}

    def settings(self, file: Path) -> dict[str, Any]:
        """Dotted key → value as an option's file writes it (interpolations stay text), inner nodes included."""
        try:
            text = file.read_text(encoding="utf-8")
            content = yaml.load(text, Loader=_LOADER) or {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{file} cannot be read as YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise UserError(f"{file} must hold settings, a `name: value` each, and holds {content!r:.60}.")
        group = file.parent
        found: dict[str, Any] = {}
        for entry in content.pop("defaults", []):
            name, package = (entry, None) if isinstance(entry, str) else next(iter(entry.items()))
            if name == "_self_" or name.startswith("override"):
                continue
            if isinstance(entry, dict):  # /curvature@curvature: fixed
                source, _, package = name.partition("@")
                inner = self.groups.get(source.lstrip("/"), {}).get(str(next(iter(entry.values()))))
                if inner is not None and package:
                    own = self.settings(inner)
                    found |= {f"{group.name}.{package}": {}}
                    found |= {f"{group.name}.{package}.{key.partition('.')[2]}": value for key, value in own.items()}
                continue
            # `digits` stands in the same group, `/experiment/pvae_mnist@_global_` in another one
            other, _, option = (name[1:].partition("@")[0] if name[0] == "/" else f"{group.name}/{name}").rpartition(
                "/"
            )
            if option in self.groups.get(other, {}):
                found |= self.settings(self.groups[other][option])
        content.pop("hydra", None)
        is_global = group in self.folders or "# @package _global_" in text
        return found | dict(_flat(content if is_global else {group.name: content}))


def description(option: Path) -> str:
    """The first comment of an option's file that is meant for people."""
    for line in option.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
    return ""


@cache
def extensions() -> tuple[str, ...]:
    """The modules that add sections: entry points in the group `hldm.sections`, and those of HLDM_PLUGINS."""
    named = [name.strip() for name in os.environ.get("HLDM_PLUGINS", "").split(",") if name.strip()]
    return (*(point.module for point in entry_points(group="hldm.sections")), *named)


def load_extensions() -> None:
    """Import the modules that add sections.

    Raises:
        UserError: one cannot be imported, whatever it raises.
    """
    for name in extensions():
        try:
            importlib.import_module(name)
        except Exception as error:  # code of somebody else
            raise UserError(
                f"The extension {name}, of HLDM_PLUGINS or of an installed package, cannot be imported "
                f"({type(error).__name__}: {error}). Mend it, put its folder on PYTHONPATH, or leave it out."
            ) from error


def extension_folders() -> Iterator[Path]:
    """The folders `conf` beside the modules that add sections."""
    load_extensions()
    for name in extensions():
        folder = Path(sys.modules[name].__file__ or "").parent / "conf"
        if folder.is_dir():
            yield folder


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}", value
            yield from _flat(value, f"{prefix}{key}.")
