"""Values that a configuration may not have, found before any work starts.

Three steps, from what can be said of any setting to what only this project knows: the type that the option's file
shows, the range of a setting, and settings that must fit each other.
"""

import math
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hldm.errors import UserError
from hldm.metrics.weights import check_inception_weights
from hldm.study import resources
from hldm.study.check_conditioning import check_conditioning, is_template
from hldm.study.check_diffusion import METHODS, check_diffusion
from hldm.study.check_latent import MAX_DIMENSION, check_latent
from hldm.study.config import CONF, FILES, get, groups, settings
from hldm.study.first_stage import check_first_stage
from hldm.study.identity import NEUTRAL, is_learnable


@dataclass(frozen=True)
class Rule:
    """What the value of a setting must be, in code, in words and as an example."""

    holds: Callable[[Any], bool]
    words: str
    example: Any


def _whole(minimum: int, example: int) -> Rule:
    return Rule(lambda value: _is_whole(value) and value >= minimum, f"a whole number ≥ {minimum}", example)


def _wholes(minimum: int, example: str) -> Rule:
    return Rule(
        lambda value: isinstance(value, list) and bool(value) and all(_is_whole(x) and x >= minimum for x in value),
        f"a list, not empty, of whole numbers ≥ {minimum}",
        example,
    )


def _number(low: float, below: float, words: str, example: float, *, above: bool = False) -> Rule:
    return Rule(
        lambda value: _is_number(value) and (low < value < below if above else low <= value < below), words, example
    )


def _one_of(*names: str) -> Rule:
    return Rule(lambda value: value in names and isinstance(value, str), f"one of {', '.join(names)}", names[0])


_POSITIVE = _number(0, math.inf, "a number > 0", 1e-3, above=True)
_NOT_NEGATIVE = _number(0, math.inf, "a number ≥ 0", 1.0)
_SHARE = _number(0, 1, "a number ≥ 0 and < 1", 0.1)
_POSITIVE_OR_NULL = Rule(lambda value: value is None or _POSITIVE.holds(value), "a number > 0, or null for none", 1.0)
_COUNT = _whole(1, 100)
_COUNT_OR_NULL = Rule(lambda value: value is None or _COUNT.holds(value), "a whole number ≥ 1, or null for never", 20)
_BOOLEAN = Rule(lambda value: isinstance(value, bool), "true or false", "true")
_AUTO = Rule(lambda value: value == "auto" or (_is_whole(value) and value >= 1), "auto or a whole number ≥ 1", 2)
_MAX_SEED = 2**32 - 1  # numpy's limit

RULES: dict[str, Rule] = {
    "seed": Rule(lambda v: _is_whole(v) and 0 <= v <= _MAX_SEED, f"a whole number from 0 to {_MAX_SEED}", 3),
    "first_stage": Rule(
        lambda value: value is None or (isinstance(value, str) and bool(value)),
        "a run directory, a folder of diffusers, or null to train one",
        "outputs/main/<run id>",
    ),
    "study": Rule(
        lambda value: _is_whole(value) or bool(isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value)),
        "a folder name of letters, digits, '.', '-' and '_'",
        "main",
    ),
    "paths.outputs": Rule(lambda value: isinstance(value, str) and bool(value), "a folder", "outputs"),
    "hardware.device": _one_of("auto", "cpu", "cuda"),
    "hardware.threads": _AUTO,
    "hardware.slots": _AUTO,
    "dataset.depth": _whole(0, 6),
    "dataset.children": _whole(1, 2),
    "dataset.siblings": _COUNT,
    "dataset.dim": _COUNT,
    "dataset.step_variance": _POSITIVE,
    "dataset.noise_variance": _POSITIVE,
    "dataset.train_share": _number(0, 1, "a number > 0 and < 1", 0.7, above=True),
    "dataset.seed": _whole(0, 0),
    "geometry.decoder_stem": _one_of("linear", "gyroplane", "mobius"),
    "autoencoder.latent_channels": _whole(1, 4),
    "autoencoder.patch_size": _whole(1, 2),
    "autoencoder.padded_side": _whole(1, 32),
    "autoencoder.layers_per_block": _whole(1, 1),
    "autoencoder.block_channels": _wholes(1, "[16,32,64]"),
    "autoencoder.posterior": _one_of("wrapped", "riemannian"),
    "autoencoder.prior_scale": _POSITIVE,
    "autoencoder.kl_weight": _NOT_NEGATIVE,
    "autoencoder.hidden": _whole(1, 600),
    "autoencoder.kl_estimator": _one_of("monte_carlo", "low_variance"),
    "autoencoder.encoder_head": _one_of("wrapped", "mobius"),
    "autoencoder.gyroplane_form": _one_of("paper", "pvae"),
    "autoencoder.likelihood": _one_of("bernoulli", "normal"),
    "autoencoder.codebook_size": _whole(2, 256),
    "autoencoder.codebook": _one_of("gradient", "ema"),
    "autoencoder.commitment_weight": _NOT_NEGATIVE,
    "autoencoder.codebook_weight": _NOT_NEGATIVE,
    "autoencoder.ema_decay": _number(0, 1, "a number ≥ 0 and < 1", 0.99),
    "autoencoder.initial_batches": _whole(0, 10),
    "autoencoder.revive_after": _COUNT_OR_NULL,
    "autoencoder.feature_channels": _whole(1, 8),
    "autoencoder.style_channels": _whole(1, 64),
    "autoencoder.global_channels": Rule(
        lambda value: _is_whole(value) and 2 <= value <= MAX_DIMENSION, f"a whole number from 2 to {MAX_DIMENSION}", 8
    ),
    "autoencoder.flat_map": _BOOLEAN,
    "denoiser.width": _whole(1, 256),
    "denoiser.blocks": _whole(1, 4),
    "denoiser.block_channels": _wholes(1, "[64,96]"),
    "denoiser.layers_per_block": _whole(1, 1),
    "denoiser.head_channels": _whole(1, 32),
    "denoiser.stem": _one_of("linear", "gyroplane"),
    "denoiser.attention": _one_of("dot_product", "euclidean_distance", "hyperbolic_distance"),
    "denoiser.curvature": _NOT_NEGATIVE,
    "diffusion.process.time": _one_of("logit_normal", "uniform"),
    "diffusion.process.schedule": _one_of("scaled_linear", "squaredcos_cap_v2"),
    "diffusion.process.pairing": _one_of("independent", "optimal_transport"),
    "diffusion.process.prediction": _one_of("v", "epsilon", "x0"),
    "diffusion.process.min_snr_gamma": Rule(_POSITIVE_OR_NULL.holds, _POSITIVE_OR_NULL.words, 5),
    "diffusion.process.zero_terminal_snr": _BOOLEAN,
    "diffusion.sampler.steps": _whole(1, 15),
    "diffusion.sampler.tolerance": _number(0, math.inf, "a number > 0", 1e-2, above=True),
    "diffusion.sampler.eta": Rule(lambda v: _is_number(v) and 0 <= v <= 1, "a number from 0 to 1", 1),
    # which of them goes with which process: check_diffusion
    "diffusion.sampler.method": _one_of(*dict.fromkeys(name for names in METHODS.values() for name in names)),
    "conditioning.dropout": _SHARE,
    "conditioning.guidance_scale": _NOT_NEGATIVE,
    "conditioning.templates": Rule(
        lambda value: isinstance(value, list) and bool(value) and all(map(is_template, value)),
        "a list of captions in lower case, each with {} once, where the class stands",
        '\'["a handwritten {}","the digit {}"]\'',
    ),
    "conditioning.held_out": Rule(
        is_template, "a caption in lower case with {} once, where the class stands", "'\"a drawing of a {}\"'"
    ),
    "conditioning.channels": _whole(1, 64),
    "conditioning.layers": _whole(1, 2),
    "conditioning.heads": _whole(1, 2),
    "conditioning.pretrained": Rule(
        lambda value: value is None or (isinstance(value, str) and bool(value)),
        "a folder, a name on the hub, or null",
        "openai/clip-vit-base-patch32",
    ),
    "training.first_stage.steps": _COUNT,
    "training.first_stage.batch_size": _COUNT,
    "training.first_stage.learning_rate": _POSITIVE,
    "training.first_stage.perceptual_weight": _NOT_NEGATIVE,
    "training.first_stage.adversarial_weight": _NOT_NEGATIVE,
    "training.first_stage.adversarial_start": _whole(0, 200),
    "training.diffusion.steps": _COUNT,
    "training.diffusion.batch_size": _COUNT,
    "training.diffusion.learning_rate": _POSITIVE,
    "training.diffusion.ema_decay": _number(0, 1, "a number ≥ 0 and < 1", 0.995),
    "training.first_stage.schedule": _one_of("cosine", "constant"),
    "training.first_stage.clip_norm": _POSITIVE_OR_NULL,
    "training.diffusion.schedule": _one_of("cosine", "constant"),
    "training.diffusion.clip_norm": _POSITIVE_OR_NULL,
    "training.checkpoint_every": _COUNT,
    "training.log_every": _COUNT,
    "metrics.samples": _whole(2, 5000),
    "metrics.sampling_seeds": _wholes(0, "[0,1]"),
    "metrics.sampling_batch_size": _COUNT,
    "metrics.first_stage_images": _whole(4, 10000),
    "metrics.hierarchy.points": _whole(4, 1500),
    "metrics.hierarchy.tries": _COUNT,
    "metrics.likelihood_images": _whole(0, 1000),
    "metrics.likelihood_steps": _whole(1, 16),
    "metrics.likelihood.images": _whole(2, 10000),
    "metrics.likelihood.importance_samples": _whole(2, 5000),
    "metrics.likelihood.checked_images": _whole(2, 1000),
    "metrics.likelihood.spacing": _POSITIVE,
    "tracking.mode": _one_of("auto", "online", "offline"),
}


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
    return resources.allot(config["hardware"], runs)


_ABSENT = object()


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
        return _is_whole(value)
    if isinstance(usual, float):
        return _is_number(value)
    if isinstance(usual, list):
        return isinstance(value, list) and all(_is_alike(item, usual[0]) for item in value if usual)
    return isinstance(value, type(usual))


def _kind(usual: Any) -> str:
    if isinstance(usual, bool):
        return "true or false"
    return {int: "a whole number", float: "a number", str: "a word", list: "a list"}[type(usual)]


def _check_curvature(config: Mapping[str, Any]) -> None:
    c = get(config, "curvature.value")
    if not _is_number(c) or c < 0:
        raise UserError(
            f"curvature={_shown(c)} is not a curvature: c must be a finite number ≥ 0 (the ball has sectional curvature"
            " −c). For flat space type geometry=euclidean; for a nearly flat ball try curvature=1e-4."
        )
    if c == 0 and is_learnable(config):
        raise UserError(
            "curvature=learnable cannot start at curvature.value=0: a learned curvature is positive by construction. "
            "Try curvature.value=1e-2, or curvature=0 for a flat ball that stays flat."
        )


def _check_channels(config: Mapping[str, Any]) -> None:
    """Channels of the factors are positive, whole balls, and add up to those of the latent."""
    manifold, latent = get(config, "geometry.manifold"), get(config, "autoencoder.latent_channels")
    if not isinstance(manifold, Mapping):
        return
    factors = manifold.get("factors", [manifold])
    channels = [factor.get("channels") for factor in factors]
    flat = get(config, "geometry.flat_channels")
    if not all(_is_whole(n) and n >= 1 for n in channels) or (flat is not None and not 1 <= flat < latent):
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
        if not _is_whole(balls) or balls < 1 or n % balls:
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


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    """A value as it is typed."""
    if value is _ABSENT:
        return "(nothing)"
    if isinstance(value, list):
        return "[" + ",".join(_shown(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)
