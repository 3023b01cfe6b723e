"""What the value of each setting must be: its range, in code, in words and as an example."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hldm.study.check_conditioning import is_template
from hldm.study.check_diffusion import METHODS
from hldm.study.check_latent import MAX_DIMENSION


@dataclass(frozen=True)
class Rule:
    """What the value of a setting must be, in code, in words and as an example."""

    holds: Callable[[Any], bool]
    words: str
    example: Any


def _whole(minimum: int, example: int) -> Rule:
    return Rule(lambda value: is_whole(value) and value >= minimum, f"a whole number ≥ {minimum}", example)


def _wholes(minimum: int, example: str) -> Rule:
    return Rule(
        lambda value: isinstance(value, list) and bool(value) and all(is_whole(x) and x >= minimum for x in value),
        f"a list, not empty, of whole numbers ≥ {minimum}",
        example,
    )


def _number(low: float, below: float, words: str, example: float, *, above: bool = False) -> Rule:
    return Rule(
        lambda value: is_number(value) and (low < value < below if above else low <= value < below), words, example
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
_AUTO = Rule(lambda value: value == "auto" or (is_whole(value) and value >= 1), "auto or a whole number ≥ 1", 2)
_MAX_SEED = 2**32 - 1  # numpy's limit

RULES: dict[str, Rule] = {
    "seed": Rule(lambda v: is_whole(v) and 0 <= v <= _MAX_SEED, f"a whole number from 0 to {_MAX_SEED}", 3),
    "first_stage": Rule(
        lambda value: value is None or (isinstance(value, str) and bool(value)),
        "a run directory, a folder of diffusers, or null to train one",
        "outputs/main/<run id>",
    ),
    "study": Rule(
        lambda value: is_whole(value) or bool(isinstance(value, str) and re.fullmatch(r"\w[\w.-]*", value)),
        "a folder name of letters, digits, '.', '-' and '_'",
        "main",
    ),
    "paths.outputs": Rule(lambda value: isinstance(value, str) and bool(value), "a folder", "outputs"),
    "hardware.device": _one_of("auto", "cpu", "cuda"),
    "hardware.threads": _AUTO,
    "hardware.slots": _AUTO,
    "hardware.compile": _BOOLEAN,
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
    "autoencoder.latent_rms": _POSITIVE,
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
        lambda value: is_whole(value) and 2 <= value <= MAX_DIMENSION, f"a whole number from 2 to {MAX_DIMENSION}", 8
    ),
    "autoencoder.flat_map": _BOOLEAN,
    "denoiser.width": _whole(1, 256),
    "denoiser.blocks": _whole(1, 4),
    "denoiser.heads": _whole(1, 4),
    "denoiser.block_channels": _wholes(1, "[64,96]"),
    "denoiser.layers_per_block": _whole(1, 1),
    "denoiser.head_channels": _whole(1, 32),
    "denoiser.stem": _one_of("linear", "gyroplane"),
    "denoiser.attention": _one_of("dot_product", "euclidean_distance", "hyperbolic_distance"),
    "denoiser.curvature": Rule(
        _NOT_NEGATIVE.holds, "a number ≥ 0, where it starts with denoiser.learnable_curvature=true", 1.0
    ),
    "diffusion.process.time": _one_of("logit_normal", "uniform"),
    "diffusion.process.schedule": _one_of("scaled_linear", "squaredcos_cap_v2"),
    "diffusion.process.pairing": _one_of("independent", "optimal_transport"),
    "diffusion.process.prediction": _one_of("v", "epsilon", "x0"),
    "diffusion.process.min_snr_gamma": Rule(_POSITIVE_OR_NULL.holds, _POSITIVE_OR_NULL.words, 5),
    "diffusion.process.zero_terminal_snr": _BOOLEAN,
    "diffusion.sampler.steps": _whole(1, 15),
    "diffusion.sampler.tolerance": _number(0, math.inf, "a number > 0", 1e-2, above=True),
    "diffusion.sampler.eta": Rule(lambda v: is_number(v) and 0 <= v <= 1, "a number from 0 to 1", 1),
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
    "training.first_stage.perceptual_features": _one_of("digits", "lpips"),
    "training.first_stage.perceptual_backbone": Rule(
        lambda value: value is None or (isinstance(value, str) and bool(value)), "a file, or null", "vgg16-397923af.pth"
    ),
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
    "metrics.likelihood_images": Rule(
        lambda value: is_whole(value) and (value == 0 or value >= 2),
        "0 for none, or a whole number ≥ 2, as it comes with its standard error",
        1000,
    ),
    "metrics.likelihood_steps": _whole(1, 16),
    "metrics.likelihood.images": _whole(2, 10000),
    "metrics.likelihood.importance_samples": _whole(2, 5000),
    "metrics.likelihood.checked_images": _whole(2, 1000),
    "metrics.likelihood.spacing": _POSITIVE,
    "tracking.mode": _one_of("auto", "online", "offline"),
}


def is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
