"""When two configurations are the same run: when what differs from the schema's defaults is the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hldm.config.conditioning import Guided
from hldm.config.diffusion import Diffusion
from hldm.config.metrics import Metrics
from hldm.config.options import LEAVES_RESULT
from hldm.config.schema import RunConfig
from hldm.run import given

FIRST_STAGE = ("seed", "dataset", "geometry", "curvature", "autoencoder")
"""What determines a first stage, beside its part of `training` and the optimiser."""


@dataclass(frozen=True)
class Identity:
    """A readable name, such as `poincare-c0.1-s3-1a2b3c4d`, and the whole digest it ends with the start of."""

    name: str
    digest: str


def run_identity(config: RunConfig) -> Identity:
    """Equal for two configurations exactly when they must give the same result.

    Left out: where and how a run works, how it is watched and what it is called; the curvature where nothing is curved,
    so a grid over geometry × curvature has one Euclidean run per seed; settings that nothing reads. A hyperbolic layer
    of the denoiser with curvature 0 is the Euclidean layer that it equals bit for bit. A first stage that is trained
    already counts by its content, wherever it lies, and then the settings to train one do not.
    """
    return _identity(config, _counted(config), is_flat=config.is_flat)


def training_identity(config: RunConfig) -> Identity:
    """Equal exactly when the trained weights must be the same: what only sampling and metrics read is left out."""
    conditioning = config.conditioning
    if isinstance(conditioning, Guided):
        conditioning = conditioning.model_copy(update={"guidance_scale": type(conditioning)().guidance_scale})
    diffusion = config.diffusion.model_copy(update={"sampler": Diffusion().sampler})
    as_trained = {"metrics": Metrics(), "diffusion": diffusion, "conditioning": conditioning}
    return run_identity(config.model_copy(update=as_trained))


def first_stage_identity(config: RunConfig) -> Identity:
    """Equal exactly when the autoencoder must be the same, so that runs can share it."""
    delta = _without_unread(config, config.delta())
    counted = {name: delta[name] for name in FIRST_STAGE if name in delta}
    shared = ("first_stage", "optimizer", "precision", "keep", "validate_every")
    counted["training"] = {name: section for name, section in delta.get("training", {}).items() if name in shared}
    return _identity(config, counted, is_flat=config.has_flat_latents)


FIRST_STAGE_WEIGHTS = "autoencoder.safetensors"
"""The weights of a first stage that runs share, in its folder."""


FIRST_STAGE_OF_LATENTS = "first_stage"
"""The file of kept latents that names the folder of their first stage."""


def first_stage_folder(config: RunConfig) -> Path:
    """Where the first stage is that this run trains, or shares: <outputs>/first_stages/<identity>."""
    return Path(config.paths.outputs) / "first_stages" / first_stage_identity(config).name


def _counted(config: RunConfig) -> dict[str, Any]:
    delta = _without_unread(config, config.delta())
    counted = {name: section for name, section in delta.items() if name not in LEAVES_RESULT}
    if not config.has_diffusion:  # nothing is denoised, so what would do it does not count
        counted = {name: section for name, section in counted.items() if name not in ("denoiser", "conditioning")}
    if config.first_stage is not None:
        counted["first_stage"] = given.digest(Path(config.first_stage))
        counted["training"] = {k: v for k, v in counted.get("training", {}).items() if k != "first_stage"}
    return counted


def _without_unread(config: RunConfig, delta: dict[str, Any]) -> dict[str, Any]:
    """What a section cannot know by itself: settings of curved latents are not read where the latents are flat."""
    unread = config.autoencoder.only_curved if config.has_flat_latents else frozenset()
    own = {key: value for key, value in delta.get("autoencoder", {}).items() if key not in unread}
    return {**delta, "autoencoder": own}


def _identity(config: RunConfig, counted: Mapping[str, Any], *, is_flat: bool) -> Identity:
    kept = {name: section for name, section in counted.items() if section != {}}
    parts = [config.geometry.name]
    if is_flat:
        kept.pop("curvature", None)
    else:
        parts.append("learnable" if config.curvature.is_learnable else f"c{config.curvature.words}")
    # sorted keys; 1 and 1.0 are written alike, since the schema made every number what it is
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Identity("-".join([*parts, f"s{config.seed}", digest[:8]]), digest)
