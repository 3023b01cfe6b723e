"""Densities of latents under the flow that draws them: the instantaneous change of variables (Chen et al. 2018).

Everything is integrated in normal coordinates, one chart for the whole manifold, where the flow is an ordinary
differential equation and the noise is N(0, I) whatever the geometry. The density comes out with respect to the
Riemannian volume: the divergence is then the manifold's, since div_g u = ∂_i(√g v̇^i)/√g with √g of `log_volume`.

Legend: `v` normal coordinates (B, C, …) with the coordinates of a point along axis 1, D of them in one latent;
t runs from noise (0) to latents (1).
"""

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from hldm.diffusion.process import Predict, Process
from hldm.diffusion.solvers import RK4, integrate
from hldm.geometry import Euclidean, Manifold

EXACT = 16
"""Up to so many dimensions the divergence is computed, at one derivative each; beyond them it is estimated."""


def log_density(
    process: Process,
    manifold: Manifold,
    predict: Predict,
    v: Tensor,
    steps: int,
    generator: Generator,
    *,
    exact: bool | None = None,
) -> Tensor:
    """log p(v), shape (B,), in nats, with respect to the Riemannian volume of all positions and factors.

        log p(v_1) = log N(v_0; 0, I) − ∫₀¹ div v̇_t dt − log √g(v_1)      Chen et al. (2018), theorem 1, in the chart

    For flow matching this is the law of samples whose solver makes no error. For tangent diffusion it is the
    probability flow (Song et al. 2021, eq. 39) between the ends of the noise schedule. The schedule's first step still
    holds a little noise; it is treated as the clean latent. As c → 0 it is the density in flat space, and at c = 0 that
    bit for bit.

    Args:
        v: latents as the process sees them.
        steps: of Runge–Kutta of order 4, four network evaluations each; the error falls with their fourth power.
        generator: of the one Rademacher vector per latent that estimates the divergence without bias (Hutchinson;
            Grathwohl et al. 2019), the same along the whole path.
        exact: whether the divergence is computed instead; by default where D ≤ `EXACT`.
    """
    dimension = v[0].numel()
    exact = dimension <= EXACT if exact is None else exact
    # drawn in any case: what else comes from the generator must not depend on it
    probe = 2.0 * torch.randint(2, v.shape, generator=generator, device=v.device).to(v.dtype) - 1

    def backwards(state: Tensor, s: float) -> Tensor:
        """d/ds of (B, D + 1): the latent, and the logarithm of the density that it has lost."""
        at, t = state[:, :-1].reshape(v.shape), 1 - s
        u, div = velocity_and_divergence(
            lambda x: process.velocity(manifold, predict, x, t), at, None if exact else probe
        )
        return torch.cat([-u.flatten(1), -div.unsqueeze(1)], 1)

    start = torch.cat([v.flatten(1), v.new_zeros(len(v), 1)], 1)
    end, _ = integrate(RK4, Euclidean(dimension + 1), backwards, start, steps)
    noise, log_change = end[:, :-1], end[:, -1]
    log_noise = -0.5 * noise.square().sum(1) - 0.5 * dimension * math.log(2 * math.pi)
    return log_noise + log_change - manifold.log_volume(v, dim=1).reshape(len(v), -1).sum(1)


def velocity_and_divergence(
    field: Callable[[Tensor], Tensor], v: Tensor, probe: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """A vector field at v (B, …) and its divergence Σ_i ∂u_i/∂v_i, (B,), which mixes nothing between samples.

    Args:
        probe: ε with E εεᵀ = I, shaped like v, for the estimate εᵀ(∂u/∂v)ε; None computes the divergence.
    """
    with torch.enable_grad():
        v = v.detach().requires_grad_()
        u = field(v)
        if probe is not None:
            (gradient,) = torch.autograd.grad((u * probe).sum(), v)
            return u.detach(), (gradient * probe).flatten(1).sum(1)
        rows = u.flatten(1).sum(0)
        diagonal = [torch.autograd.grad(row, v, retain_graph=True)[0].flatten(1)[:, i] for i, row in enumerate(rows)]
    return u.detach(), torch.stack(diagonal).sum(0)
