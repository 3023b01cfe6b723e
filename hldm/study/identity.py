"""When two configurations are the same run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hldm.study.config import get
from hldm.study.first_stage import content_digest, digest
from hldm.study.overrides import LEAVES_RESULT

FIRST_STAGE = ("dataset", "geometry", "curvature", "autoencoder", "seed")
"""The sections that determine the autoencoder, beside its part of `training`."""

RECORD_KEEPING = ("checkpoint_every", "log_every")
"""Settings of `training` that a resumed or watched run may change: the steps are the same."""

NEUTRAL = {
    "diffusion.process.pairing": "independent",
    "diffusion.process.prediction": "v",
    "diffusion.process.min_snr_gamma": None,
    "diffusion.process.zero_terminal_snr": False,
    "diffusion.sampler.method": "ddim",
    "diffusion.sampler.eta": 0,
    "conditioning.hyperbolic": False,
    "denoiser.stem": "linear",
    "denoiser.attention": "dot_product",
}
"""Settings that are left out where they have the value that earlier versions, which did not have them, worked with."""

EVIDENCE_BOUND = ("likelihood_images", "likelihood_steps")
"""Settings of `metrics` that are left out where the bound is not computed, as before there was one."""


@dataclass(frozen=True)
class Identity:
    """A readable name, such as `poincare-c0.1-s3-1a2b3c4d`, and the whole digest it ends with the start of."""

    name: str
    digest: str


def run_identity(config: Mapping[str, Any]) -> Identity:
    """Equal for two configurations exactly when they must give the same result.

    Left out: where and how a run works, how it is watched and what it is called; the curvature where the geometry is
    flat. So a grid over geometry × curvature has one Euclidean run per seed. A hyperbolic layer of the denoiser with
    curvature 0 is the Euclidean layer that it equals bit for bit. A first stage that is trained already counts by its
    content, wherever it lies, and then the settings to train one do not; so does a pretrained text model in a folder.
    """
    # what the latent layout chose stands in the sections of autoencoder and denoiser
    kept = {key: value for key, value in config.items() if key not in (*LEAVES_RESULT, "latent")}
    if get(config, "diffusion.process", kept) is None:
        kept = {key: value for key, value in kept.items() if key not in ("denoiser", "conditioning")}
    if isinstance(diffusion := kept.get("diffusion"), Mapping):
        kept["diffusion"] = {part: _effective(part, content) for part, content in diffusion.items()}
    if isinstance(denoiser := kept.get("denoiser"), Mapping):
        kept["denoiser"] = _effective_denoiser(denoiser)
    if isinstance(metrics := kept.get("metrics"), Mapping) and not metrics.get("likelihood_images"):
        kept["metrics"] = {key: value for key, value in metrics.items() if key not in EVIDENCE_BOUND}
    if isinstance(training := kept.get("training"), Mapping):
        kept["training"] = {key: value for key, value in training.items() if key not in RECORD_KEEPING}
        kept["training"] |= {"first_stage": _effective_first_stage(training.get("first_stage"))}
    if isinstance(conditioning := kept.get("conditioning"), Mapping):
        kept["conditioning"] = _effective_conditioning(conditioning)
    first_stage = kept.pop("first_stage", None)
    if first_stage is not None:
        kept["first_stage"] = digest(Path(first_stage))
        kept["training"] = {key: value for key, value in kept["training"].items() if key != "first_stage"}
    return _identity(config, kept, is_flat(config))


def first_stage_identity(config: Mapping[str, Any]) -> Identity:
    """Equal exactly when the autoencoder must be the same, so that runs can share it."""
    kept = {key: config[key] for key in FIRST_STAGE if key in config}
    training = {
        "first_stage": _effective_first_stage(get(config, "training.first_stage")),
        "optimizer": get(config, "training.optimizer"),
    }
    return _identity(config, {**kept, "training": training}, has_flat_latents(config))


def is_flat(config: Mapping[str, Any]) -> bool:
    """Whether the run has no use for a curvature, in its latents or elsewhere."""
    return has_flat_latents(config) and not is_conditioned_on_balls(config)


def has_flat_latents(config: Mapping[str, Any]) -> bool:
    """Whether no factor of the geometry has a curvature, fixed or learned."""
    return not _mentions(get(config, "geometry.manifold"), "curvature")


def is_conditioned_on_balls(config: Mapping[str, Any]) -> bool:
    """Whether labels or text are embedded as points of balls."""
    return get(config, "diffusion.process") is not None and bool(get(config, "conditioning.hyperbolic"))


def is_learnable(config: Mapping[str, Any]) -> bool:
    """Whether the curvature is learned."""
    return str(get(config, "curvature._target_")).endswith("LearnableCurvature")


def _effective(part: str, content: Any) -> Any:
    """A section of `diffusion` without what is neutral, and without a tolerance that the solver does not read."""
    if not isinstance(content, Mapping):
        return content
    unread = () if content.get("method") == "adaptive" else ("tolerance",)
    kept = {key: value for key, value in content.items() if key not in unread}
    return _without_neutral(f"diffusion.{part}", kept)


def _without_neutral(section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if NEUTRAL.get(f"{section}.{key}", _ABSENT) != value}


def _effective_conditioning(conditioning: Mapping[str, Any]) -> dict[str, Any]:
    """The section without what is neutral; a folder with a text model counts by its content."""
    kept = _without_neutral("conditioning", conditioning)
    if (name := kept.get("pretrained")) is not None and (folder := Path(name).expanduser()).is_dir():
        kept["pretrained"] = content_digest(sorted(file for file in folder.iterdir() if file.is_file()))
    return kept


def _effective_first_stage(content: Any) -> Any:
    """The section `training.first_stage` without losses that have no weight, and what nothing reads then."""
    if not isinstance(content, Mapping):
        return content
    unread = [key for key in ("perceptual_weight", "adversarial_weight") if not content.get(key)]
    if "adversarial_weight" in unread:
        unread.append("adversarial_start")
    # digits are left out: earlier versions had no other features, and those have no file
    if "perceptual_weight" in unread or content.get("perceptual_features") == "digits":
        unread += ["perceptual_features", "perceptual_backbone"]
    return {key: value for key, value in content.items() if key not in unread}


def _effective_denoiser(denoiser: Mapping[str, Any]) -> dict[str, Any]:
    """The section without what is neutral: flat layers by their Euclidean names, a curvature only where one is read."""
    flat = {"gyroplane": "linear", "hyperbolic_distance": "euclidean_distance"}
    curvature = denoiser.get("curvature")
    kept = {key: value for key, value in denoiser.items() if key not in ("curvature", "learnable_curvature")}
    if curvature == 0:
        kept |= {key: flat.get(kept[key], kept[key]) for key in ("stem", "attention") if key in kept}
    elif any(kept.get(key) in flat for key in ("stem", "attention")):
        kept["curvature"] = curvature
        kept |= {"learnable_curvature": True} if denoiser.get("learnable_curvature") else {}
    return {key: value for key, value in kept.items() if NEUTRAL.get(f"denoiser.{key}", _ABSENT) != value}


_ABSENT = object()


def _identity(config: Mapping[str, Any], kept: dict[str, Any], flat: bool) -> Identity:
    parts = [str(get(config, "geometry.name", "run"))]
    if flat:
        kept.pop("curvature", None)
        if isinstance(autoencoder := kept.get("autoencoder"), Mapping):  # its map is flat in either case
            kept["autoencoder"] = {key: value for key, value in autoencoder.items() if key != "flat_map"}
    else:
        parts.append("learnable" if is_learnable(config) else f"c{_number(get(config, 'curvature.value'))}")
    digest = hashlib.sha256(_canonical(kept).encode()).hexdigest()
    return Identity("-".join([*parts, f"s{_number(config.get('seed'))}", digest[:8]]), digest)


def _canonical(value: Any) -> str:
    """JSON with sorted keys in which 1 and 1.0 are written alike."""
    return json.dumps(_same_numbers(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _same_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _same_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_same_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mentions(node: Any, name: str) -> bool:
    if isinstance(node, Mapping):
        return name in node or any(_mentions(value, name) for value in node.values())
    return isinstance(node, list | tuple) and any(_mentions(value, name) for value in node)
