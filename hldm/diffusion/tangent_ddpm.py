"""Ordinary diffusion in the normal coordinates of the latents.

It is the same on every manifold, and depends on the choice of the origin: the noise is Gaussian in the chart, not on
the manifold. What the geometry changes is where the latents lie and how they are decoded.

Legend: v_t = √ᾱ_t·v + √(1 − ᾱ_t)·ε at step t of 1000, SNR_t = ᾱ_t/(1 − ᾱ_t). Schedules and samplers are diffusers'.
"""

import math
from typing import Any, Literal

import numpy as np
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Generator, Tensor

from hldm.config.diffusion import TRAIN_STEPS
from hldm.diffusion.process import Predict, Process, Sampler
from hldm.geometry import Manifold

PREDICTIONS = {"epsilon": "epsilon", "v": "v_prediction", "x0": "sample"}
"""What the network can predict → what diffusers calls it."""

SCHEDULERS = {
    "ddim": DDIMScheduler,  # Song et al. (2021)
    "ddpm": DDPMScheduler,  # Ho et al. (2020)
    "dpm_solver++": DPMSolverMultistepScheduler,  # Lu et al. (2022), second order, multistep
    "unipc": UniPCMultistepScheduler,  # Zhao et al. (2023), second order
    "euler": EulerDiscreteScheduler,  # Karras et al. (2022)
}


class TangentDDPM(Process):
    """DDPM (Ho et al. 2020) on schedulers of diffusers.

    Args:
        schedule: "scaled_linear" (latent diffusion: √β linear from √.0015 to √.0195) or "squaredcos_cap_v2" (cosine).
        prediction: the network's target: "epsilon" (the noise), "x0" (the latent) or "v" = √ᾱ·ε − √(1 − ᾱ)·v
            (Salimans & Ho 2022).
        min_snr_gamma: γ > 0 weighs the loss by `min_snr_weight`; None leaves it unweighted.
        zero_terminal_snr: whether ᾱ is rescaled to end at 0, so that training sees the pure noise that sampling starts
            from (Lin et al. 2024, algorithm 1). The noise then says nothing of the latent, so "epsilon" is excluded.
    """

    train_steps = TRAIN_STEPS

    def __init__(
        self,
        *,
        schedule: Literal["scaled_linear", "squaredcos_cap_v2"] = "scaled_linear",
        prediction: Literal["epsilon", "v", "x0"] = "v",
        min_snr_gamma: float | None = None,
        zero_terminal_snr: bool = False,
    ) -> None:
        assert not (prediction == "epsilon" and zero_terminal_snr), "pure noise says nothing of the latent"
        self.prediction = prediction
        self.min_snr_gamma = min_snr_gamma
        self.scheduler = DDPMScheduler(
            num_train_timesteps=self.train_steps,
            beta_start=0.0015,
            beta_end=0.0195,
            beta_schedule=schedule,
            prediction_type=PREDICTIONS[prediction],
            clip_sample=False,
            rescale_betas_zero_snr=zero_terminal_snr,
        )

    def loss(self, manifold: Manifold, predict: Predict, v: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(v.shape, generator=generator, device=v.device)
        steps = torch.randint(self.train_steps, (len(v),), generator=generator, device=v.device)
        noisy = self.scheduler.add_noise(v, noise, steps)
        squares = (predict(noisy, steps / self.train_steps) - self.target(v, noise, steps)).square()
        if self.min_snr_gamma is None:
            return squares.mean()
        return (squares.flatten(1).mean(1) * self.min_snr_weight(steps, self.min_snr_gamma)).mean()

    def target(self, v: Tensor, noise: Tensor, steps: Tensor) -> Tensor:
        """What the network should predict, shaped like v (B, C, h, w), at steps (B,)."""
        if self.prediction == "epsilon":
            return noise
        return v if self.prediction == "x0" else self.scheduler.get_velocity(v, noise, steps)

    def velocity(self, manifold: Manifold, predict: Predict, v: Tensor, t: float) -> Tensor:
        """Along the angle φ with √ᾱ = cos φ the flow is dv/dφ = v-prediction (Salimans & Ho 2022, appendix D).

        φ falls linearly in t, from the last step of the schedule to the first; between steps φ ↦ step is linear.
        """
        angles = torch.acos(self.scheduler.alphas_cumprod.double().sqrt()).numpy()
        angle = float(angles[-1] + t * (angles[0] - angles[-1]))
        step = float(np.interp(angle, angles, np.arange(self.train_steps)))
        output = predict(v, v.new_full((len(v),), step / self.train_steps))
        if self.prediction == "epsilon":
            output = (output - math.sin(angle) * v) / math.cos(angle)
        elif self.prediction == "x0":
            output = (math.cos(angle) * v - output) / math.sin(angle)
        return float(angles[0] - angles[-1]) * output

    def min_snr_weight(self, steps: Tensor, gamma: float) -> Tensor:
        """Weights (B,) of the squared errors at steps (B,): the error of the latent counts min(SNR, γ) times.

            min(SNR, γ)/{1, SNR, SNR + 1}   for "x0", "epsilon", "v"          Hang et al. (2023), eq. 8 and appendix

        A step with SNR = 0, which only `zero_terminal_snr` has, has weight 1: sampling starts there.
        """
        alpha_bar = self.scheduler.alphas_cumprod.to(steps.device)[steps]
        snr = alpha_bar / (1 - alpha_bar)
        per_latent_error = {"x0": torch.ones_like(snr), "epsilon": snr, "v": snr + 1}
        return (snr.clamp(max=gamma) / per_latent_error[self.prediction]).where(snr > 0, 1)


class DiffusionSampler(Sampler):
    """Runs `TangentDDPM` backwards with a scheduler of diffusers. All noise is the generator's.

    Args:
        steps: network evaluations, 1 to 1000. With "ddim" a divisor of 1000, or nearly: diffusers rounds the length of
            its steps down, and the rest of the way is lost.
        method: "ddim", "dpm_solver++", "unipc" and "euler" are deterministic given the first noise; "ddpm" adds noise
            at every step.
        eta: share of DDPM's noise that "ddim" adds, 0 to 1.
    """

    def __init__(self, *, method: str = "ddim", steps: int, eta: float = 0.0) -> None:
        assert method in SCHEDULERS, method
        assert not eta or method == "ddim", "the other methods have no noise to set"
        self.evaluations = steps
        self.method = method
        self.eta = eta

    def sample(
        self, process: Process, manifold: Manifold, predict: Predict, shape: tuple[int, ...], generator: Generator
    ) -> Tensor:
        if not isinstance(process, TangentDDPM):
            raise TypeError("DiffusionSampler runs TangentDDPM backwards and nothing else")
        # trailing: start at the last step, where training saw the noise that sampling starts from (Lin et al. 2024)
        scheduler = SCHEDULERS[self.method].from_config(process.scheduler.config, timestep_spacing="trailing")
        scheduler.set_timesteps(self.evaluations)
        noise: dict[str, Any] = {"generator": generator} if self.method in ("ddim", "ddpm") else {}
        if self.method == "ddim":
            noise["eta"] = self.eta
        # Euler's own coordinates are v_t/√ᾱ_t, of scale √(1/ᾱ_t − 1) at the first step. Its init_noise_sigma is the
        # largest σ of all steps, which with zero_terminal_snr is not that of the first one
        start = scheduler.sigmas[0] if self.method == "euler" else scheduler.init_noise_sigma
        v = torch.randn(shape, generator=generator, device=generator.device) * start
        for step in scheduler.timesteps:
            times = torch.full((shape[0],), step.item() / process.train_steps, device=v.device)
            # the network sees v_t
            output = predict(scheduler.scale_model_input(v, step), times)
            v = scheduler.step(output, step, v, **noise).prev_sample
        return v
