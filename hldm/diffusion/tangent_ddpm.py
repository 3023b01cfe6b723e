"""Ordinary diffusion in the normal coordinates of the latents.

It is the same on every manifold, and depends on the choice of the origin: the noise is Gaussian in the chart, not on
the manifold. What the geometry changes is where the latents lie and how they are decoded.

Legend: v_t = √ᾱ_t·v + √(1 − ᾱ_t)·ε at step t of 1000, SNR_t = ᾱ_t/(1 − ᾱ_t). Schedules and samplers are diffusers',
but for DDIM, which there steps back by 1000 // steps wherever its next step is.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from diffusers import (
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
    "ddpm": DDPMScheduler,  # Ho et al. (2020)
    "dpm_solver++": DPMSolverMultistepScheduler,  # Lu et al. (2022), second order, multistep
    "unipc": UniPCMultistepScheduler,  # Zhao et al. (2023), second order
    "euler": EulerDiscreteScheduler,  # Karras et al. (2022)
}
"""Sampler → scheduler of diffusers. "ddim" (Song et al. 2021) stands in `DiffusionSampler`."""

METHODS = ("ddim", *SCHEDULERS)


def timesteps(spacing: str, n: int) -> list[int]:
    """The n different steps of the schedule that a sampler visits, in [0, 1000) and falling.

    trailing    999, …, 1000/n − 1      Lin et al. (2024), table 2: from pure noise, but with a long last jump to data
    leading     1000 − 1000/n, …, 0     from a step that has less noise than sampling starts from
    leading_1   1001 − 1000/n, …, 1     that of latent diffusion's code and weights (n < 1000), whose last jump is to
                                        step 0 rather than to data
    linspace    999, …, 0               equal steps between both ends
    quadratic   999, …, 0               steps as i², which are short near the data (Song et al. 2021, appendix D.2)
    """
    end, i = TRAIN_STEPS - 1, np.arange(n)
    if spacing == "trailing":
        return [int(step) for step in np.round(TRAIN_STEPS - i * (TRAIN_STEPS / n)) - 1]
    if spacing == "leading_1":
        return [int(step) + 1 for step in i * (TRAIN_STEPS // n)][::-1]
    if spacing == "leading":
        return [int(step) for step in i * TRAIN_STEPS // n][::-1]
    if n == 1:
        return [end]
    rising = np.round(end * (i / (n - 1)) ** {"linspace": 1, "quadratic": 2}[spacing])
    # near 0 several squares round to one step: the later ones move up, and the last of 1000 still is 999
    return [int(step) for step in np.maximum.accumulate(rising - i) + i][::-1]


class TangentDDPM(Process):
    """DDPM (Ho et al. 2020) on schedulers of diffusers.

    Args:
        schedule: "scaled_linear" (√β linear) or "squaredcos_cap_v2" (cosine).
        beta_start, beta_end: first and last β of "scaled_linear"; those of latent diffusion's LSUN models by default.
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
        beta_start: float = 0.0015,
        beta_end: float = 0.0195,
        prediction: Literal["epsilon", "v", "x0"] = "v",
        min_snr_gamma: float | None = None,
        zero_terminal_snr: bool = False,
    ) -> None:
        assert not (prediction == "epsilon" and zero_terminal_snr), "pure noise says nothing of the latent"
        self.prediction = prediction
        self.min_snr_gamma = min_snr_gamma
        self.scheduler = DDPMScheduler(
            num_train_timesteps=self.train_steps,
            beta_start=beta_start,
            beta_end=beta_end,
            beta_schedule=schedule,
            prediction_type=PREDICTIONS[prediction],
            clip_sample=False,
            rescale_betas_zero_snr=zero_terminal_snr,
        )

    def loss(
        self,
        manifold: Manifold,
        predict: Predict,
        v: Tensor,
        generator: Generator,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        assert noise is None, "the check refuses others"
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

    def estimates(self, output: Tensor, v: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The latent and the noise that the network's output at v_t stands for, both shaped like v."""
        signal, noise = self.shares(step)
        if self.prediction == "epsilon":
            return (v - noise * output) / signal, output
        if self.prediction == "x0":
            return output, (v - signal * output) / noise
        return signal * v - noise * output, noise * v + signal * output

    def shares(self, step: int) -> tuple[float, float]:
        """√ᾱ and √(1 − ᾱ) at a step; 1 and 0 for what is before the first step, the data."""
        alpha_bar = float(self.scheduler.alphas_cumprod[step]) if step >= 0 else 1.0
        return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)

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
    """Runs `TangentDDPM` backwards with a scheduler of diffusers, or with DDIM. All noise is the generator's.

    Args:
        steps: network evaluations, 1 to 1000.
        method: "ddim", "dpm_solver++", "unipc" and "euler" are deterministic given the first noise; "ddpm" adds noise
            at every step.
        eta: share of DDPM's noise that "ddim" adds, 0 to 1.
        spacing: which steps of the schedule are visited, see `timesteps`.
    """

    def __init__(
        self,
        *,
        method: str = "ddim",
        steps: int,
        eta: float = 0.0,
        spacing: Literal["trailing", "leading", "leading_1", "linspace", "quadratic"] = "trailing",
    ) -> None:
        assert method in METHODS, method
        assert spacing in ("trailing", "leading", "leading_1", "linspace", "quadratic"), spacing
        assert not eta or method == "ddim", "the other methods have no noise to set"
        self.evaluations = steps
        self.method = method
        self.eta = eta
        self.timesteps = timesteps(spacing, steps)
        # latent diffusion takes what has the noise of the schedule's first step for the latent
        self.end = 0 if spacing == "leading_1" else -1

    def sample(
        self, process: Process, manifold: Manifold, predict: Predict, shape: tuple[int, ...], generator: Generator
    ) -> Tensor:
        if not isinstance(process, TangentDDPM):
            raise TypeError("DiffusionSampler runs TangentDDPM backwards and nothing else")

        def at(v: Tensor, step: float) -> Tensor:
            return predict(v, torch.full((shape[0],), step / process.train_steps, device=v.device))

        v = torch.randn(shape, generator=generator, device=generator.device)
        if self.method == "ddim":
            return self._ddim(process, at, v, generator)
        scheduler = self._scheduler(process)
        noise: dict[str, Any] = {"generator": generator} if self.method == "ddpm" else {}
        # Euler's own coordinates are v_t/√ᾱ_t, of scale √(1/ᾱ_t − 1) at the first step. Its init_noise_sigma is the
        # largest σ of all steps, which with zero_terminal_snr is not that of the first one
        v = v * (scheduler.sigmas[0] if self.method == "euler" else scheduler.init_noise_sigma)
        for step in scheduler.timesteps:
            # the network sees v_t
            output = at(scheduler.scale_model_input(v, step), step.item())
            v = scheduler.step(output, step, v, **noise).prev_sample
        return v

    def _scheduler(self, process: TangentDDPM) -> Any:
        """The scheduler of diffusers at this sampler's steps, which not all of them take as an argument."""
        scheduler = SCHEDULERS[self.method].from_config(process.scheduler.config, timestep_spacing="trailing")
        scheduler.set_timesteps(self.evaluations)
        scheduler.timesteps = torch.tensor(self.timesteps, dtype=scheduler.timesteps.dtype)
        if hasattr(scheduler, "sigmas"):
            sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5
            scheduler.sigmas = torch.cat([sigmas[self.timesteps], sigmas.new_zeros(1)])
        return scheduler

    def _ddim(
        self, process: TangentDDPM, at: Callable[[Tensor, float], Tensor], v: Tensor, generator: Generator
    ) -> Tensor:
        """v_s = √ᾱ_s·v̂ + √(1 − ᾱ_s − σ²)·ε̂ + σz from each step t to the next one s, and from the last to the end.

        σ² = η²·(1 − ᾱ_s)/(1 − ᾱ_t)·(1 − ᾱ_t/ᾱ_s)           Song et al. (2021), eq. 12 and 16
        """
        for step, after in pairwise([*self.timesteps, self.end]):
            latent, noise = process.estimates(at(v, step), v, step)
            (signal, share), (signal_after, share_after) = process.shares(step), process.shares(after)
            sigma = self.eta * share_after / share * math.sqrt(max(0.0, 1 - (signal / signal_after) ** 2))
            v = signal_after * latent + math.sqrt(share_after**2 - sigma**2) * noise
            if sigma:
                v = v + sigma * torch.randn(v.shape, generator=generator, device=v.device)
        return v
