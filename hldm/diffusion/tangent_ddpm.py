"""Ordinary diffusion in the normal coordinates of the latents.

It is the same on every manifold, and depends on the choice of the origin: the noise is Gaussian in the chart, not on
the manifold. What the geometry changes is where the latents lie and how they are decoded.
"""

from typing import Literal

import torch
from diffusers import DDIMScheduler, DDPMScheduler
from torch import Generator, Tensor

from hldm.diffusion.process import Predict, Process, Sampler
from hldm.geometry import Manifold


class TangentDDPM(Process):
    """DDPM (Ho et al. 2020) with v-prediction (Salimans & Ho 2022), on schedulers of diffusers.

    Args:
        schedule: "scaled_linear" (latent diffusion: √β linear from √.0015 to √.0195) or "squaredcos_cap_v2" (cosine).
    """

    train_steps = 1000

    def __init__(self, schedule: Literal["scaled_linear", "squaredcos_cap_v2"]) -> None:
        self.scheduler = DDPMScheduler(
            num_train_timesteps=self.train_steps,
            beta_start=0.0015,
            beta_end=0.0195,
            beta_schedule=schedule,
            prediction_type="v_prediction",
            clip_sample=False,
        )

    def loss(self, manifold: Manifold, predict: Predict, v: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(v.shape, generator=generator, device=v.device)
        steps = torch.randint(self.train_steps, (len(v),), generator=generator, device=v.device)
        noisy = self.scheduler.add_noise(v, noise, steps)
        target = self.scheduler.get_velocity(v, noise, steps)
        return (predict(noisy, steps / self.train_steps) - target).square().mean()


class DiffusionSampler(Sampler):
    """DDIM (Song et al. 2021), deterministic given the first noise.

    Args:
        steps: network evaluations, 1 to 1000.
    """

    def __init__(self, steps: int) -> None:
        self.evaluations = steps

    def sample(
        self, process: Process, manifold: Manifold, predict: Predict, shape: tuple[int, ...], generator: Generator
    ) -> Tensor:
        if not isinstance(process, TangentDDPM):
            raise TypeError("DiffusionSampler runs TangentDDPM backwards and nothing else")
        scheduler = DDIMScheduler.from_config(process.scheduler.config, timestep_spacing="trailing")
        scheduler.set_timesteps(self.evaluations)
        v = torch.randn(shape, generator=generator, device=generator.device)
        for step in scheduler.timesteps:
            times = torch.full((shape[0],), step.item() / process.train_steps, device=v.device)
            v = scheduler.step(predict(v, times), step, v).prev_sample
        return v
