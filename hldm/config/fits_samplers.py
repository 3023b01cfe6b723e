"""Rules about samplers, and about what of them is tried on validation images."""

from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from hldm.config.archives import Archived
from hldm.config.dataset import MNIST
from hldm.config.diffusion import TRAIN_STEPS, DiffusionSampler, FlowSampler, Sampler, TangentDDPM
from hldm.config.explain import must_be
from hldm.config.fits_samples import MIN_SAMPLES
from hldm.config.metrics import USUAL_SCALES
from hldm.config.schema import RunConfig
from hldm.console import shown

VARIED = {"sampler_steps": "steps", "sampler_methods": "method"}
"""Setting of the metrics → setting of the sampler that its curve varies."""


def curves(c: RunConfig) -> Iterator[str]:
    """What is tried on validation images is there to be tried, each value once, and there are such images.

    The scales of guidance that conf/ recommends are left out without a word where there is no use for them.
    """
    metrics, sampler = c.metrics, c.diffusion.sampler
    if metrics.extractors and c.dataset.has_validation is False:
        yield from chosen_on_nothing(c)
    if metrics.extractors:
        yield from _alone(c)
    for name, values in _asked(c).items():
        key = f"metrics.{name}={shown(list(values))}"
        if len(set(values)) < len(values):
            yield f"{key} has a value twice. Type metrics.{name}={shown(list(dict.fromkeys(values)))}."
        if not metrics.extractors:
            yield f"{key} compares samples, and metrics.extractors=[] draws none. Leave it out, or type metrics=digits."
        if not c.has_diffusion:
            yield f"{key} is about sampling by diffusion, and diffusion=none has none. Type metrics.{name}=[]."
        elif name == "guidance_scales" and not c.has_guidance:
            yield (
                f"{key} is about classifier-free guidance, which needs a condition that training leaves out at times. "
                f"Type metrics.{name}=[], or conditioning=class conditioning.dropout=0.1."
            )
        elif name != "guidance_scales" and sampler is not None:
            yield from _samplers(c, sampler, name, values)


def chosen_on_nothing(c: RunConfig) -> Iterator[str]:
    """A sentence for everything that a user asked to be tried on validation images; of data that have too few."""
    for name, values in _asked(c).items():
        yield (
            f"metrics.{name}={shown(list(values))} is chosen from on validation images, and there are none, or fewer "
            f"than {MIN_SAMPLES}. Type metrics.{name}=[]"
            + (", or dataset.validation_images=5000." if isinstance(c.dataset, MNIST | Archived) else ".")
        )


def _asked(c: RunConfig) -> dict[str, tuple[Any, ...]]:
    """Setting → values of the curves that a user asked for."""
    metrics = c.metrics
    scales = () if metrics.guidance_scales == USUAL_SCALES else metrics.guidance_scales
    wanted: dict[str, tuple[Any, ...]] = {
        "guidance_scales": scales,
        "sampler_steps": metrics.sampler_steps,
        "sampler_methods": metrics.sampler_methods,
    }
    return {name: values for name, values in wanted.items() if len(values) > 1}


def _alone(c: RunConfig) -> Iterator[str]:
    """A sentence for a list of one value that is not the sampler's own: nothing is chosen from it, or drawn with it.

    One scale of guidance is how one turns off the curve that runs have by default, and says nothing else.
    """
    for name, setting in VARIED.items():
        values, own = getattr(c.metrics, name), getattr(c.diffusion.sampler, setting, None)
        if len(values) == 1 and own not in (None, values[0]):
            key = f"diffusion.sampler.{setting}"
            yield (
                f"metrics.{name}={shown(list(values))} is one value, of which nothing is chosen, and samples are drawn "
                f"with {key}={shown(own)}. Type {key}={shown(values[0])} metrics.{name}=[] for that one."
            )


def _samplers(c: RunConfig, sampler: Sampler, name: str, values: tuple[Any, ...]) -> Iterator[str]:
    """Each value suits the sampler, as if it were the sampler's own."""
    setting = VARIED[name]
    if setting not in type(sampler).model_fields:
        key = f"metrics.{name}={shown(list(values))}"
        yield f"{key} varies a setting that this sampler lacks, {setting}. Type metrics.{name}=[]."
        return
    if setting == "steps" and isinstance(sampler, FlowSampler) and sampler.method == "adaptive":
        yield (
            f"metrics.{name}={shown(list(values))} varies what diffusion.sampler.method=adaptive chooses by its "
            f"tolerance. Type metrics.{name}=[], or diffusion.sampler.method=midpoint."
        )
        return
    for value in values:
        try:
            other = type(sampler).model_validate({**dict(sampler), setting: value})
        except ValidationError:
            allowed = must_be(type(sampler).model_fields[setting])
            yield f"metrics.{name} has {shown(value)}, and diffusion.sampler.{setting} must be {allowed}."
            continue
        varied = c.model_copy(update={"diffusion": c.diffusion.model_copy(update={"sampler": other})})
        if value != getattr(sampler, setting):
            yield from (f"metrics.{name} has {shown(value)}: {sentence}" for sentence in noise_schedule(varied))


def noise_schedule(c: RunConfig) -> Iterator[str]:
    """Prediction, schedule and sampler of diffusion=ddpm suit each other."""
    process, sampler = c.diffusion.process, c.diffusion.sampler
    if not isinstance(process, TangentDDPM) or not isinstance(sampler, DiffusionSampler):
        return
    method = sampler.method
    if sampler.eta and method != "ddim":
        yield (
            f"diffusion.sampler.eta={sampler.eta:g} is the noise of method=ddim, and method={method} has none to set. "
            "Type diffusion.sampler.eta=0, or diffusion.sampler.method=ddim."
        )
    if sampler.spacing == "leading_1" and sampler.steps == TRAIN_STEPS:
        yield (
            f"diffusion.sampler.spacing=leading_1 moves all steps up by one, and with diffusion.sampler.steps="
            f"{TRAIN_STEPS} the last one would leave the schedule. Type diffusion.sampler.spacing=leading, or fewer "
            "steps."
        )
    if process.prediction != "epsilon":
        return
    if process.zero_terminal_snr:
        yield (
            "diffusion.process.prediction=epsilon does not go with diffusion.process.zero_terminal_snr=true: at the "
            "last step the noise is all there is, and knowing it says nothing of the latent. "
            "Type diffusion.process.prediction=v, or x0."
        )
    if process.schedule == "squaredcos_cap_v2" and method != "ddpm":
        yield (
            "diffusion.process.prediction=epsilon with diffusion.process.schedule=squaredcos_cap_v2 needs "
            "diffusion.sampler.method=ddpm: the last step of the cosine schedule has 1/20000 of the latent, so the "
            f"network's error is divided by that, and {method} keeps what ddpm forgets in its noise. "
            "Or type diffusion.process.prediction=v."
        )
