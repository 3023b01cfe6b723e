"""Settings of the process and its sampler that must fit each other."""

from collections.abc import Mapping
from typing import Any

from hldm.errors import UserError
from hldm.study.config import get

METHODS = {
    "FlowSampler": ("midpoint", "euler", "heun", "rk4", "adaptive"),
    "DiffusionSampler": ("ddim", "ddpm", "dpm_solver++", "unipc", "euler"),
}
"""Class of the sampler → its methods."""

_TRAIN_STEPS = 1000  # of TangentDDPM


def check_diffusion(config: Mapping[str, Any]) -> None:
    """Raise a UserError where a sampler cannot run its process backwards."""
    process, sampler = get(config, "diffusion.process"), get(config, "diffusion.sampler")
    images = get(config, "metrics.likelihood_images")
    if images and process is None:
        raise UserError(
            f"metrics.likelihood_images={images} takes the diffusion model for the prior of the latents, and "
            "diffusion=none has none. Type metrics=likelihood for the likelihood under the autoencoder's own prior."
        )
    if images and get(process, "prediction") == "epsilon" and get(process, "schedule") == "squaredcos_cap_v2":
        raise UserError(
            f"metrics.likelihood_images={images} follows the flow from the last step of the schedule, where "
            "diffusion.process.schedule=squaredcos_cap_v2 leaves 1/20000 of the latent, and "
            "diffusion.process.prediction=epsilon says nothing of it. Type diffusion.process.prediction=v."
        )
    if not isinstance(process, Mapping) or not isinstance(sampler, Mapping):
        return
    method = sampler.get("method")
    allowed = METHODS.get(str(sampler.get("_target_")).rpartition(".")[2], ())
    if allowed and method not in allowed:
        raise UserError(
            f"diffusion.sampler.method={method} is not a method of this sampler: it must be one of "
            f"{', '.join(allowed)}, for example diffusion.sampler.method={allowed[0]}."
        )
    if "prediction" in process:
        _check_tangent_ddpm(process, sampler)


def _check_tangent_ddpm(process: Mapping[str, Any], sampler: Mapping[str, Any]) -> None:
    steps, method = sampler["steps"], sampler["method"]
    if steps > _TRAIN_STEPS:
        raise UserError(
            f"diffusion.sampler.steps={steps} is more than the {_TRAIN_STEPS} steps that the process is "
            "trained on. Try diffusion.sampler.steps=50."
        )
    # the DDIM of diffusers steps back by 1000 // steps, wherever its next step is: 400 steps of length 2 cover 800
    if method == "ddim" and _TRAIN_STEPS % steps > 0.01 * _TRAIN_STEPS:
        divisors = [n for n in range(1, _TRAIN_STEPS + 1) if _TRAIN_STEPS % n == 0]
        below, above = max(n for n in divisors if n < steps), min(n for n in divisors if n > steps)
        length = _TRAIN_STEPS // steps
        raise UserError(
            f"diffusion.sampler.steps={steps} does not suit method=ddim: its steps have a whole length, here {length}, "
            f"so they cover {steps * length} of {_TRAIN_STEPS}. Try diffusion.sampler.steps={below} or {above}, or "
            "another method, such as diffusion.sampler.method=dpm_solver++."
        )
    if sampler["eta"] and method != "ddim":
        raise UserError(
            f"diffusion.sampler.eta={sampler['eta']} is the noise of method=ddim, and method={method} has none to set. "
            "Type diffusion.sampler.eta=0, or diffusion.sampler.method=ddim."
        )
    if process["prediction"] != "epsilon":
        return
    if process["zero_terminal_snr"]:
        raise UserError(
            "diffusion.process.prediction=epsilon does not go with diffusion.process.zero_terminal_snr=true: at the "
            "last step the noise is all there is, and knowing it says nothing of the latent. "
            "Type diffusion.process.prediction=v, or x0."
        )
    if process["schedule"] == "squaredcos_cap_v2" and method != "ddpm":
        raise UserError(
            "diffusion.process.prediction=epsilon with diffusion.process.schedule=squaredcos_cap_v2 needs "
            "diffusion.sampler.method=ddpm: the last step of the cosine schedule has 1/20000 of the latent, so the "
            f"network's error is divided by that, and {method} keeps what ddpm forgets in its noise. "
            "Or type diffusion.process.prediction=v."
        )
