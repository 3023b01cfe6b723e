"""Riemannian flow matching (Chen & Lipman 2023) and ODE solvers that stay on the manifold.

Legend: time t runs from noise (0) to latents (1). The network's output `w` is a velocity in the orthonormal frame at
x_t, so at c → 0 everything here is Euclidean flow matching with straight paths.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Generator, Tensor

from hldm.diffusion.process import Predict, Process, Sampler
from hldm.errors import UserError
from hldm.geometry import Manifold


class FlowMatching(Process):
    """Geodesic paths from a centred wrapped normal to the latents.

        x_t = exp_{x₀}(t·log_{x₀} x₁),   loss = |w(x_t, t) − frame(u_t)|² / n,   u_t = transport of log_{x₀} x₁ to x_t

    The transported form of u_t has no singularity at t = 1 (Chen & Lipman 2023, sec. 3.2).

    Args:
        time: "uniform", or "logit_normal", which spends more of the training in the middle (Esser et al. 2024).
    """

    prior_scale = 1.0  # latents have unit mean square, so the prior fits them at scale 1

    def __init__(self, time: Literal["uniform", "logit_normal"]) -> None:
        if time not in ("uniform", "logit_normal"):
            raise UserError(f"diffusion.process.time={time} is not a time distribution. Use uniform or logit_normal.")
        self.time = time

    def loss(self, manifold: Manifold, predict: Predict, v: Tensor, generator: Generator) -> Tensor:
        x0 = manifold.random(v.shape, self.prior_scale, generator, dim=1)
        if self.time == "uniform":
            t = torch.rand(len(v), generator=generator, device=v.device)
        else:
            t = torch.sigmoid(torch.randn(len(v), generator=generator, device=v.device))
        x_t, u_t = manifold.geodesic(x0, manifold.from_tangent(v, dim=1), t.view(-1, 1, 1, 1), dim=1)
        target = manifold.to_frame(x_t, u_t, dim=1)
        # one division for all coordinates: a product manifold weighs its factors by their dimension
        return (predict(manifold.to_tangent(x_t, dim=1), t) - target).square().mean()


class FlowSampler(Sampler):
    """Integrates dx/dt = w(x, t) with geodesic steps of equal length.

    Args:
        method: "euler" (order 1), "midpoint" or "heun" (order 2). The second slope is transported back to x before it
            is used: slopes at different points are not comparable.
        steps: number of steps, ≥ 1.
    """

    def __init__(self, method: Literal["euler", "midpoint", "heun"], steps: int) -> None:
        if method not in ("euler", "midpoint", "heun"):
            raise UserError(f"diffusion.sampler.method={method} is not a solver. Use euler, midpoint or heun.")
        self.method = method
        self.steps = steps
        self.evaluations = steps if method == "euler" else 2 * steps

    def sample(
        self, process: Process, manifold: Manifold, predict: Predict, shape: tuple[int, ...], generator: Generator
    ) -> Tensor:
        def velocity(x: Tensor, t: float) -> Tensor:
            times = torch.full((shape[0],), t, device=x.device)
            return manifold.from_frame(x, predict(manifold.to_tangent(x, dim=1), times), dim=1)

        x = manifold.random(shape, FlowMatching.prior_scale, generator, dim=1)
        h = 1 / self.steps
        for step in range(self.steps):
            x = self.advance(manifold, velocity, x, step * h, h)
        return manifold.to_tangent(x, dim=1)

    def advance(
        self, manifold: Manifold, velocity: Callable[[Tensor, float], Tensor], x: Tensor, t: float, h: float
    ) -> Tensor:
        """x(t) → x(t + h)."""
        u = velocity(x, t)
        if self.method == "midpoint":
            middle = manifold.expmap(x, 0.5 * h * u, dim=1)
            u = manifold.transport(middle, x, velocity(middle, t + 0.5 * h), dim=1)
        elif self.method == "heun":
            ahead = manifold.expmap(x, h * u, dim=1)
            u = 0.5 * (u + manifold.transport(ahead, x, velocity(ahead, t + h), dim=1))
        return manifold.expmap(x, h * u, dim=1)
