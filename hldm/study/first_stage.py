"""`first_stage=…`: a trained autoencoder to take instead of training one. Imports no torch.

It is a finished run of ours, or a folder in diffusers' format: config.json beside diffusion_pytorch_model.safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from hldm.errors import UserError
from hldm.study.config import get, groups, settings
from hldm.study.run_directory import RunDirectory

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASSES = ("AutoencoderKL", "VQModel")
"""Classes of diffusers that a published folder may hold."""


def is_run(path: Path) -> bool:
    """Whether it is a run of ours rather than a published folder."""
    return (path / "config.yaml").is_file()


def digest(path: Path) -> str:
    """A hash of what `first_stage` names, wherever it lies: of all its weights, and of a folder's config.json."""
    if is_run(path):
        results = RunDirectory(path).results or {}
        return str(get(results, "provenance.weights", ""))
    return content_digest([path / "config.json", path / WEIGHTS])


def content_digest(files: list[Path]) -> str:
    """A hash of what is in all of these files, wherever they lie."""
    hashes = (_sha256(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


@lru_cache
def _sha256(file: str, changed: int, size: int) -> str:
    """Of one file, read once however many points of a grid use it."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def check_first_stage(config: Mapping[str, Any], inherited: Mapping[str, Any]) -> None:
    """Raise a UserError where `first_stage` is not there, or is not the first stage of this configuration.

    Args:
        inherited: settings that earlier versions did not have → the value that they worked with.
    """
    name = get(config, "first_stage")
    is_published = "architecture" in get(config, "autoencoder")
    if name is None:
        if is_published:
            raise UserError(
                "autoencoder=published is an autoencoder that is trained already. Say where it lies: "
                "first_stage=<folder with config.json and diffusion_pytorch_model.safetensors>."
            )
        return
    path = Path(name)
    if is_run(path):
        _check_run(path, config, inherited)
    elif not (path / "config.json").is_file():
        raise UserError(
            f"first_stage={name} is neither a run nor a published autoencoder. Name a finished run, "
            "outputs/<study>/<run id>, or a folder with config.json and diffusion_pytorch_model.safetensors."
        )
    elif not is_published:
        raise UserError(
            f"first_stage={name} is a folder of diffusers, with an architecture of its own. "
            "Type autoencoder=published with it."
        )
    else:
        _check_folder(path)
    if is_published:
        _check_published(name, config)


def architecture(path: Path) -> Any:
    """The content of config.json of a published folder, or what a run remembers of it; None where there is neither."""
    if is_run(path):
        return get(RunDirectory(path).config, "autoencoder.architecture")
    try:
        return json.loads((path / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"first_stage={path}: its config.json cannot be read ({type(error).__name__}). Copy the folder anew."
        ) from error


def latent_channels(content: Mapping[str, Any]) -> int:
    """Of a published autoencoder with this config.json."""
    return int(content.get("vq_embed_dim") or content.get("latent_channels") or 4)


def _check_run(path: Path, config: Mapping[str, Any], inherited: Mapping[str, Any]) -> None:
    run = RunDirectory(path)
    if run.state != "finished" or not (path / "checkpoints" / "model.safetensors").is_file():
        raise UserError(
            f"first_stage={path} is a run that has not finished ({run.state}). Finish it first: the command that "
            "started it goes on from where it stopped."
        )
    if to_type := differences(run.config, config, inherited):
        raise UserError(
            f"first_stage={path} was trained with other settings than those of this run. "
            f"Type {' '.join(to_type)} with it."
        )


def differences(source: Mapping[str, Any], config: Mapping[str, Any], inherited: Mapping[str, Any]) -> list[str]:
    """What to type so that `config` describes the autoencoder, geometry and data set of `source`."""
    to_type: list[str] = []
    for section, keys in {
        "dataset": None,
        "geometry": ("name", "manifold", "decoder_stem", "flat_channels"),
        "autoencoder": None,
    }.items():
        theirs, ours = get(source, section, {}), get(config, section, {})
        option = _option(section, theirs)
        if option != _option(section, ours):
            to_type.append(f"{section}={option}")
            file = groups().get(section, {}).get(str(option))
            ours = (
                {} if file is None else {k.partition(".")[2]: v for k, v in settings(file).items() if k.count(".") == 1}
            )
        for key in sorted(theirs.keys() | ours.keys()) if keys is None else keys:
            usual = inherited.get(f"{section}.{key}")
            one, other = (_own(x.get(key, usual)) for x in (theirs, ours))
            # what an option's file takes from other sections follows them
            if one == other or key.startswith("_") or key in ("name", "folder") or "${" in str(other):
                continue
            if isinstance(one, Mapping) and isinstance(other, Mapping):
                inner = [name for name in one if one[name] != other.get(name)]
                to_type += [f"{section}.{key}.{name}={_typed(one[name])}" for name in inner]
            else:
                to_type.append(f"{section}.{key}={_typed(one)}")
    if "'curvature'" in str(get(source, "geometry.manifold")) and get(source, "curvature") != get(config, "curvature"):
        c = get(source, "curvature.value")
        is_learned = str(get(source, "curvature._target_")).endswith("LearnableCurvature")
        to_type += ["curvature=learnable", f"curvature.value={c}"] if is_learned else [f"curvature={c}"]
    return to_type


def _option(section: str, content: Mapping[str, Any]) -> str | None:
    """The option that a section was made from, by its class or its name."""
    for option, file in groups().get(section, {}).items():
        known = settings(file)
        if section == "geometry":
            if known.get("geometry.name", option) == content.get("name"):
                return option
        elif known.get(f"{section}._target_") == content.get("_target_"):
            return option
    return None


def _own(node: Any) -> Any:
    """A manifold without what other sections say: they are compared on their own."""
    if isinstance(node, Mapping):
        return {key: _own(value) for key, value in node.items() if key not in ("curvature", "channels")}
    return [_own(item) for item in node] if isinstance(node, list) else node


def _typed(value: Any) -> str:
    """A value as it is typed on a command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return json.dumps(value, separators=(",", ":")).replace('"', "") if isinstance(value, list | dict) else str(value)


def _check_folder(path: Path) -> None:
    kind = (architecture(path) or {}).get("_class_name")
    if kind not in CLASSES:
        raise UserError(
            f"first_stage={path} holds a {kind}, which is not a first stage. Its config.json must name "
            f"{' or '.join(CLASSES)}."
        )
    if not (path / WEIGHTS).is_file():
        raise UserError(
            f"first_stage={path} has no {WEIGHTS}. Only safetensors are read: other formats can run code. "
            "Download that file, or save the model again with save_pretrained(…, safe_serialization=True)."
        )


def _check_published(name: str, config: Mapping[str, Any]) -> None:
    manifold, stem = get(config, "geometry.manifold"), get(config, "geometry.decoder_stem")
    if "'curvature'" in str(manifold) or stem != "linear":
        raise UserError(
            f"first_stage={name} was trained in flat space, and geometry={get(config, 'geometry.name')} would take its "
            "latents for points of another space. Type geometry=euclidean."
        )
    if get(config, "diffusion.process") is None:
        raise UserError("autoencoder=published has no prior to sample from. Type diffusion=flow to learn one.")
    for key in ("likelihood", "likelihood_images"):
        if get(config, f"metrics.{key}"):
            raise UserError(
                f"metrics.{key} needs the likelihood of an image, and autoencoder=published gives images without one. "
                f"Type metrics.{key}={'null' if key == 'likelihood' else 0}."
            )
    content = get(config, "autoencoder.architecture") or {}
    side = get(config, "autoencoder.padded_side")
    levels = len(content.get("block_out_channels", [0])) + len(get(config, "denoiser.block_channels", [0]))
    if side % (divisor := 2 ** (levels - 2)):
        raise UserError(
            f"autoencoder.padded_side={side} cannot be halved by the levels of first_stage={name} and the denoiser: it "
            f"must be a multiple of {divisor}, such as autoencoder.padded_side={divisor * -(-side // divisor)}."
        )
