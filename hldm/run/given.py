"""`first_stage=…`: a trained autoencoder to take instead of training one. Imports no torch.

It is a finished run of ours, or a folder in diffusers' format: config.json beside diffusion_pytorch_model.safetensors.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hldm.config.base import Section
from hldm.config.diffusion import PublishedUNet
from hldm.config.fits_networks import fitting_balls
from hldm.config.geometry import Geometry, PoincareBall
from hldm.config.options import Options
from hldm.config.published import CLASSES, WEIGHTS, architecture, is_run
from hldm.config.schema import RunConfig
from hldm.console import shown
from hldm.files import content_digest
from hldm.run.directory import MODEL, RunDirectory


def digest(path: Path) -> str:
    """A hash of what `first_stage` names, wherever it lies: of all its weights, and of a folder's config.json."""
    if is_run(path):
        results = RunDirectory(path).results or {}
        return str(results.get("provenance", {}).get("weights", ""))
    return content_digest([path / "config.json", path / WEIGHTS])


def problems(config: RunConfig, options: Options) -> Iterator[str]:
    """A sentence where `first_stage` is not there, or is not the first stage of this configuration."""
    if config.first_stage is None:
        return
    path = Path(config.first_stage)
    if is_run(path):
        yield from _problems_of_run(path, config, options)
    elif not (path / "config.json").is_file():
        yield (
            f"first_stage={path} is neither a run nor a published autoencoder. Name a finished run, "
            "outputs/<study>/<run id>, a folder with config.json and diffusion_pytorch_model.safetensors, or null to "
            "train one."
        )
    elif not config.autoencoder.is_published:
        yield (
            f"first_stage={path} is a folder of diffusers, with an architecture of its own. "
            "Type autoencoder=published with it."
        )
    else:
        yield from _problems_of_folder(path)


def _problems_of_run(path: Path, config: RunConfig, options: Options) -> Iterator[str]:
    run = RunDirectory(path)
    if run.snapshot().state != "finished" or not (path / MODEL).is_file():
        yield (
            f"first_stage={path} is a run that has not finished ({run.snapshot().state}). Finish it first: the command "
            "that started it goes on from where it stopped."
        )
    elif to_type := differences(run.config, config, options):
        yield (
            f"first_stage={path} was trained with other settings than those of this run. "
            f"Type {' '.join(to_type)} with it."
        )


def _problems_of_folder(path: Path) -> Iterator[str]:
    kind = (architecture(path) or {}).get("_class_name")
    if kind not in CLASSES:
        yield (
            f"first_stage={path} holds a {kind}, which is not a first stage. Its config.json must name "
            f"{' or '.join(CLASSES)}."
        )
    elif not (path / WEIGHTS).is_file():
        yield (
            f"first_stage={path} has no {WEIGHTS}. Only safetensors are read: other formats can run code. "
            f"Download that file, or make it of another with `hldm convert source={path} out=<folder>`."
        )


def problems_of_unet(config: RunConfig) -> Iterator[str]:
    """A sentence where `denoiser.folder` has no weights."""
    denoiser = config.denoiser
    if not isinstance(denoiser, PublishedUNet) or denoiser.folder is None or denoiser.architecture is None:
        return  # without its config.json more is said of it elsewhere
    if not (Path(denoiser.folder) / WEIGHTS).is_file():
        yield (
            f"denoiser.folder={denoiser.folder} has no {WEIGHTS}. Only safetensors are read: `hldm convert` makes them "
            "of other formats."
        )


def differences(source: RunConfig, config: RunConfig, options: Options) -> list[str]:
    """What to type so that `config` describes the autoencoder, geometry and data set of `source`."""
    to_type = _section("dataset", source.dataset, config.dataset, options)
    to_type += _geometry(source, config, options)
    to_type += _section("autoencoder", source.autoencoder, config.autoencoder, options)
    if not source.has_flat_latents and source.curvature != config.curvature:
        c = shown(source.curvature.value)
        is_learned = source.curvature.is_learnable
        to_type += ["curvature=learnable", f"curvature.value={c}"] if is_learned else [f"curvature={c}"]
    return to_type


def _section(group: str, theirs: Section, ours: Section, options: Options) -> list[str]:
    """Its option where that differs, and the settings that differ then."""
    if type(theirs) is type(ours):
        usual: dict[str, Any] = {name: value for name, value, _ in ours.fields()}
        to_type = []
    else:
        option = option_of(group, theirs, options)
        settings = options.settings(options.groups[group][option]) if option else {}
        written = {name: settings.get(f"{group}.{name}", default) for name, _, default in theirs.fields()}
        usual = {name: tuple(value) if isinstance(value, list) else value for name, value in written.items()}
        to_type = [f"{group}={option}"]
    for name, value, _ in theirs.fields():
        # what an option's file takes from other sections follows them
        follows = name == "architecture" or usual[name] == "auto" or "${" in str(usual[name])
        if name in theirs.unread() or follows or usual[name] == value:
            continue
        to_type.append(f"{group}.{name}={shown(value)}")
    return to_type


def _balls(geometry: Geometry) -> int:
    """Balls of a manifold that is no product of others; 1 elsewhere, where they are not for the user to choose."""
    return geometry.manifold.balls if isinstance(geometry.manifold, PoincareBall) else 1


def _geometry(source: RunConfig, config: RunConfig, options: Options) -> list[str]:
    theirs, ours = source.geometry, config.geometry
    to_type = []
    usual: dict[str, Any] = {name: getattr(ours, name) for name in ("decoder_stem", "flat_channels")}
    usual_balls = _balls(ours)
    if theirs.name != ours.name:
        to_type = [f"geometry={theirs.name}"]
        file = options.groups["geometry"].get(theirs.name)
        settings = {} if file is None else options.settings(file)
        usual = {name: settings.get(f"geometry.{name}") for name in usual}
        of_file = settings.get("geometry.manifold.balls", 1)
        usual_balls = fitting_balls(source) if of_file == "auto" else of_file
    to_type += [
        f"geometry.{name}={shown(getattr(theirs, name))}"
        for name in usual
        if getattr(theirs, name) != usual[name] and "${" not in str(usual[name])
    ]
    if (balls := _balls(theirs)) != usual_balls:
        to_type.append(f"geometry.manifold.balls={balls}")
    return to_type


def option_of(group: str, section: Section, options: Options) -> str | None:
    """The option that a section was made from, by its class."""
    for option, file in options.groups.get(group, {}).items():
        if options.settings(file).get(f"{group}._target_") == section.target:
            return option
    return None
