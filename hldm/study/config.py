"""The one place where conf/ becomes a plain dictionary, which is all that the rest of the package sees."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

ROOT = Path(__file__).resolve().parents[2]
"""The checkout: it holds train.py, conf/ and, unless told otherwise, outputs/."""

CONF = ROOT / "conf"

ADDED = ("ablation", "experiment", "sweep")
"""Groups that stand over the others, so they are not among the defaults and are chosen with a + sign."""

FILES = (
    "dataset.folder",
    "metrics.weights",
    "metrics.extractor.weights",
    "metrics.classifier.weights",
    "training.first_stage.perceptual_backbone",
)
"""Settings that name a file or folder of the user, relative to where the command was typed."""

FOLDERS_OR_NAMES = ("conditioning.pretrained",)
"""Settings that name such a folder, where there is one, or else something elsewhere."""


def register_resolvers() -> None:
    """What `${hldm.…}` means in conf/. Every composition needs it; `compose` and the command line call it."""
    OmegaConf.register_new_resolver("hldm.root", lambda: str(ROOT), replace=True)
    OmegaConf.register_new_resolver("hldm.minus", lambda a, b: a - b, replace=True)


def compose(overrides: list[str]) -> dict[str, Any]:
    """The checked configuration of one run, as `python train.py OVERRIDES` makes it, for tests and benchmarks."""
    import hydra

    from hldm.study import check
    from hldm.study import overrides as arguments

    register_resolvers()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        composed = hydra.compose("config", arguments.prepared(overrides), return_hydra_config=True)
    config = plain(composed)
    check.check(config, composed.hydra.runtime.choices)
    return config


def plain(composed: DictConfig) -> dict[str, Any]:
    """Hydra's composition → dictionary without interpolations and without Hydra's own settings; paths are absolute.

    Raises:
        omegaconf.errors.OmegaConfBaseException: an interpolation that cannot be resolved.
    """
    own = composed.copy()
    with open_dict(own):
        own.pop("hydra", None)
        _describe_first_stage(own)
    # OmegaConf's annotation covers lists and strings too; a DictConfig gives a dictionary
    config: dict[str, Any] = OmegaConf.to_container(own, resolve=True, throw_on_missing=True)  # type: ignore[assignment]  # a dict
    for key in ("paths.outputs", *FILES):
        if isinstance(value := get(config, key), str) and value:
            parent, _, name = key.rpartition(".")
            get(config, parent)[name] = str(Path(value).expanduser().absolute())
    for key in FOLDERS_OR_NAMES:
        if isinstance(value := get(config, key), str) and (folder := Path(value).expanduser()).is_dir():
            parent, _, name = key.rpartition(".")
            get(config, parent)[name] = str(folder.absolute())
    return config


def _describe_first_stage(config: DictConfig) -> None:
    """Make its path absolute; a published autoencoder says itself what it is."""
    from hldm.study import first_stage

    name = OmegaConf.select(config, "first_stage")
    if not isinstance(name, str):
        return
    # as run directories are looked for: where the command was typed, then beside train.py
    places = (Path(name).expanduser().absolute(), ROOT / name)
    path = next((place for place in places if place.is_dir()), places[0])
    config.first_stage = str(path)
    if "architecture" in config.autoencoder and (content := first_stage.architecture(path)):
        config.autoencoder.architecture = content
        config.autoencoder.latent_channels = first_stage.latent_channels(content)


def get(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """`get(config, "training.first_stage.steps")`, or the default where a part of the path is not there."""
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return default
        node = node[part]
    return node


@cache
def groups() -> dict[str, dict[str, Path]]:
    """Group → option → its file: what `geometry=poincare` can name."""
    folders = sorted(folder for folder in CONF.iterdir() if folder.is_dir() and folder.name != "hydra")
    return {folder.name: {file.stem: file for file in sorted(folder.glob("*.yaml"))} for folder in folders}


def description(option: Path) -> str:
    """The first comment of an option file that is meant for people."""
    for line in option.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
    return ""


@cache
def settings(option: Path) -> dict[str, Any]:
    """Dotted key → value as the option's file writes it (interpolations stay text), inner nodes included."""
    content = OmegaConf.to_container(OmegaConf.load(option), resolve=False)
    assert isinstance(content, dict)
    named = [name for name in content.pop("defaults", []) if isinstance(name, str) and name != "_self_"]
    # `digits` stands beside the file, `/experiment/pvae_mnist@_global_` in conf/
    files = [CONF / name[1:].partition("@")[0] if name[0] == "/" else option.with_name(name) for name in named]
    inherited = [settings(file.with_suffix(".yaml")) for file in files]
    content.pop("hydra", None)
    is_global = option.parent == CONF or "# @package _global_" in option.read_text(encoding="utf-8")
    own = dict(_flat(content if is_global else {option.parent.name: content}))
    return {key: value for file in [*inherited, own] for key, value in file.items()}


def _flat(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}", value
            yield from _flat(value, f"{prefix}{key}.")
