"""Values that a configuration may not have, found before any work starts.

Three steps, from what can be said of any setting to what only this project knows: the type that the option's file
shows, the range of a setting, and settings that must fit each other.
"""

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hldm.config.weights import check_inception_weights, check_vgg_weights
from hldm.errors import UserError
from hldm.study import resources
from hldm.study.check_conditioning import check_conditioning
from hldm.study.check_diffusion import check_diffusion
from hldm.study.check_latent import check_latent
from hldm.study.config import CONF, FILES, get, groups, settings
from hldm.study.first_stage import check_first_stage
from hldm.study.identity import NEUTRAL, is_learnable
from hldm.study.rules import RULES, is_number, is_whole


def check(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> None:
    """Raise a UserError for the first value that cannot be right.

    Args:
        config: the whole configuration, without interpolations.
        choices: group → chosen option (Hydra's `runtime.choices`); the options' files show the types.
    """
    _check_types(config, choices)
    for key, rule in RULES.items():
        value = get(config, key, _ABSENT)
        if value is not _ABSENT and not rule.holds(value):
            raise UserError(
                f"{key}={_shown(value)} is not allowed: it must be {rule.words}, for example {key}={rule.example}."
            )
    _check_curvature(config)
    _check_channels(config)
    check_first_stage(config, NEUTRAL)
    _check_parts(config)
    check_latent(config)
    check_diffusion(config)
    check_conditioning(config)
    _check_sizes(config)
    if str(get(config, "metrics.extractor._target_")).endswith("InceptionFeatures"):
        check_inception_weights(get(config, "metrics.extractor.weights"))
    is_trained = get(config, "first_stage") is None
    if is_trained and get(config, f"{_LOSS}_weight") and get(config, f"{_LOSS}_features") == "lpips":
        check_vgg_weights(get(config, f"{_LOSS}_backbone"))
    for key in FILES:
        value = get(config, key)
        if value is not None and not Path(value).exists():
            raise UserError(f"{key}={value} does not exist. Give a path that does, or {key}=null for the default.")


def check_machine(config: Mapping[str, Any], runs: int = 1) -> resources.Allotment:
    """How many runs at once with how many threads; a UserError where this machine has not what is asked for."""
    outputs = Path(config["paths"]["outputs"])
    try:
        outputs.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=outputs):
            pass
    except OSError as error:
        raise UserError(
            f"paths.outputs={outputs} cannot be written ({error.strerror}). "
            "Name a folder that you may write, as in paths.outputs=~/outputs."
        ) from error
    if config["hardware"]["compile"]:
        resources.check_compiler()
    return resources.allot(config["hardware"], runs)


_ABSENT = object()
_LOSS = "training.first_stage.perceptual"


def _check_types(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> None:
    files = [CONF / "config.yaml"]
    known = groups()
    files += [known[group][option] for group, option in choices.items() if option in known.get(group, {})]
    for file in files:
        for key, usual in settings(file).items():
            if key in (*RULES, "curvature.value") or usual is None or (isinstance(usual, str) and "${" in usual):
                continue
            value = get(config, key, _ABSENT)
            if not _is_alike(value, usual):
                raise UserError(
                    f"{key}={_shown(value)} is not allowed: it must be {_kind(usual)}, as {key}={_shown(usual)} is."
                    if not isinstance(usual, dict)
                    else f"{key}={_shown(value)} is not allowed: it is a section. `python train.py --cfg job` shows it."
                )


def _is_alike(value: Any, usual: Any) -> bool:
    if isinstance(usual, bool) or isinstance(value, bool):
        return isinstance(usual, bool) and isinstance(value, bool)
    if isinstance(usual, int):
        return is_whole(value)
    if isinstance(usual, float):
        return is_number(value)
    if isinstance(usual, list):
        return isinstance(value, list) and all(_is_alike(item, usual[0]) for item in value if usual)
    return isinstance(value, type(usual))


def _kind(usual: Any) -> str:
    if isinstance(usual, bool):
        return "true or false"
    return {int: "a whole number", float: "a number", str: "a word", list: "a list"}[type(usual)]


def _check_curvature(config: Mapping[str, Any]) -> None:
    c = get(config, "curvature.value")
    if not is_number(c) or c < 0:
        raise UserError(
            f"curvature={_shown(c)} is not a curvature: c must be a finite number ≥ 0 (the ball has sectional curvature"
            " −c). For flat space type geometry=euclidean; for a nearly flat ball try curvature=1e-4."
        )
    if c == 0 and is_learnable(config):
        raise UserError(
            "curvature=learnable cannot start at curvature.value=0: a learned curvature is positive by construction. "
            "Try curvature.value=1e-2, or curvature=0 for a flat ball that stays flat."
        )
    if get(config, "denoiser.curvature") == 0 and get(config, "denoiser.learnable_curvature"):
        raise UserError(
            "denoiser.learnable_curvature=true cannot start at denoiser.curvature=0: a learned curvature is positive "
            "by construction. Try denoiser.curvature=1e-2, or denoiser.learnable_curvature=false to stay flat."
        )


def _check_channels(config: Mapping[str, Any]) -> None:
    """Channels of the factors are positive, whole balls, and add up to those of the latent."""
    manifold, latent = get(config, "geometry.manifold"), get(config, "autoencoder.latent_channels")
    if not isinstance(manifold, Mapping):
        return
    factors = manifold.get("factors", [manifold])
    channels = [factor.get("channels") for factor in factors]
    flat = get(config, "geometry.flat_channels")
    if not all(is_whole(n) and n >= 1 for n in channels) or (flat is not None and not 1 <= flat < latent):
        raise UserError(
            f"geometry.flat_channels={flat} does not leave channels for every factor: there are "
            f"autoencoder.latent_channels={latent}, so it must be from 1 to {latent - 1}. "
            "For latents that are all flat type geometry=euclidean; for none, geometry=poincare."
            if flat is not None and latent > 1
            else f"geometry={get(config, 'geometry.name')} needs at least {len(factors)} channels, but "
            f"autoencoder.latent_channels={latent}. Type autoencoder.latent_channels={2 * len(factors)}."
        )
    if sum(channels) != latent:
        raise UserError(
            f"The factors of geometry={get(config, 'geometry.name')} have {' + '.join(map(str, channels))} channels, "
            f"but autoencoder.latent_channels={latent}. Make the two equal, for example "
            f"autoencoder.latent_channels={sum(channels)}."
        )
    for factor, n in zip(factors, channels, strict=True):
        balls = factor.get("balls", 1)
        if not is_whole(balls) or balls < 1 or n % balls:
            allowed = ", ".join(str(k) for k in range(1, n + 1) if n % k == 0)
            raise UserError(
                f"balls={_shown(balls)} does not divide the {n} channels of its factor into whole balls. "
                f"Allowed are {allowed}."
            )


def _check_parts(config: Mapping[str, Any]) -> None:
    """Parts of the model that do not go with each other."""
    is_vector = get(config, "autoencoder.hidden", _ABSENT) is not _ABSENT
    for name in ("perceptual_weight", "adversarial_weight"):
        if is_vector and get(config, f"training.first_stage.{name}"):
            raise UserError(
                f"training.first_stage.{name} is about pictures as convolutions make them, autoencoder=kl or vq. Type "
                f"training.first_stage.{name}=0 with autoencoder=mlp."
            )
    if not is_vector and get(config, "geometry.decoder_stem") == "mobius":
        raise UserError(
            "geometry.decoder_stem=mobius is for vector latents, autoencoder=mlp. Use geometry.decoder_stem=gyroplane."
        )
    is_data_vector = get(config, "dataset.dim", _ABSENT) is not _ABSENT
    if is_data_vector and not (is_vector and get(config, "metrics.extractor") is None):
        raise UserError(
            "dataset=branching has vectors, not pictures. Type autoencoder=mlp diffusion=none metrics=vectors with it; "
            "`+experiment=pvae_tree` is the whole protocol."
        )
    if get(config, "autoencoder.codebook_size", _ABSENT) is not _ABSENT:
        if get(config, "diffusion.process") is None:
            raise UserError(
                "diffusion=none samples from the autoencoder's prior, and autoencoder=vq has none. Type diffusion=flow "
                "to learn one, or autoencoder=kl, which has a prior of its own."
            )
        if get(config, "metrics.likelihood") is not None:
            raise UserError(
                "metrics=likelihood integrates over the autoencoder's prior, and autoencoder=vq has none. Type "
                "metrics=digits, or autoencoder=kl."
            )
        if get(config, "metrics.likelihood_images"):
            raise UserError(
                f"metrics.likelihood_images={get(config, 'metrics.likelihood_images')} bounds the likelihood of images "
                "by the posterior of their latents, and autoencoder=vq has none. Type metrics.likelihood_images=0, or "
                "autoencoder=kl."
            )
    if get(config, "diffusion.process") is not None and get(config, "training.diffusion") is None:
        raise UserError(
            "This training has no second stage, and the diffusion process needs one. Type diffusion=none, or "
            "training=standard."
        )


def _check_sizes(config: Mapping[str, Any]) -> None:
    """Widths fit their normalisation groups and attention heads, and every level can halve the side."""
    for section, group in (("autoencoder", 8), ("denoiser", 16)):
        for width in get(config, f"{section}.block_channels", []):
            if width % group:
                raise UserError(
                    f"{section}.block_channels has {width}, which is not a multiple of {group} (the group size of its "
                    f"normalisation). Try {group * max(1, round(width / group))}."
                )
    width, heads = get(config, "denoiser.width"), get(config, "denoiser.heads")
    if heads and width % heads:
        raise UserError(
            f"denoiser.heads={heads} does not divide denoiser.width={width}. "
            f"Try denoiser.width={heads * max(1, round(width / heads))}."
        )
    head, widths = get(config, "denoiser.head_channels"), get(config, "denoiser.block_channels")
    if head and widths and widths[-1] % head:
        raise UserError(
            f"denoiser.head_channels={head} does not divide {widths[-1]}, the last of denoiser.block_channels, into "
            f"attention heads. Try denoiser.head_channels={math.gcd(head, widths[-1])}."
        )
    if (
        head
        and get(config, "denoiser.attention") == "hyperbolic_distance"
        and not any(head % n == 0 for n in range(2, 9))
    ):
        raise UserError(
            f"denoiser.head_channels={head} cannot be split into balls of 2 to 8 dimensions, which "
            "denoiser.attention=hyperbolic_distance needs (a ball of one dimension is flat). "
            "Try denoiser.head_channels=16."
        )
    side, patch = get(config, "autoencoder.padded_side"), get(config, "autoencoder.patch_size", 1)
    halvings = sum(len(blocks) - 1 for blocks in (get(config, "autoencoder.block_channels"), widths) if blocks)
    if side and side % (divisor := patch * 2**halvings):
        raise UserError(
            f"autoencoder.padded_side={side} cannot be folded by autoencoder.patch_size={patch} and halved by the "
            f"levels of autoencoder and denoiser: it must be a multiple of {divisor}, such as "
            f"autoencoder.padded_side={divisor * max(1, math.ceil(side / divisor))}."
        )


def _shown(value: Any) -> str:
    """A value as it is typed."""
    if value is _ABSENT:
        return "(nothing)"
    if isinstance(value, list):
        return "[" + ",".join(_shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)
