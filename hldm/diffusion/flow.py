"""Riemannian flow matching (Chen & Lipman 2023) and ODE solvers that stay on the manifold.

Legend: time t runs from noise (0) to latents (1). The network's output `w` is a velocity in the orthonormal frame at
x_t, so at c → 0 everything here is Euclidean flow matching with straight paths.
"""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor, nn

from hldm.diffusion.process import Predict, Process, Sampler
from hldm.diffusion.solvers import FIXED_STEP, integrate, integrate_adaptively
from hldm.geometry import Manifold


class FlowMatching(Process, nn.Module):
    """Geodesic paths from a centred wrapped normal to the latents.

        x_t = exp_{x₀}(t·log_{x₀} x₁),   loss = |w(x_t, t) − frame(u_t)|² / n,   u_t = transport of log_{x₀} x₁ to x_t

    The transported form of u_t has no singularity at t = 1 (Chen & Lipman 2023, sec. 3.2).

    With `prediction="residual"` the network predicts what is left of the velocity beside a share of x_t itself,

        w = (1 − ρ)(2t − 1)/D · v_t + √(1 − ρ²) F(v_t/√D, t)/√D,   D = t² + (1 − t)² + 2ρt(1 − t),

    with v_t the normal coordinates of x_t and ρ the correlation of noise and latents, 0 where they are independent. It
    is the preconditioning of Karras et al. (2022, table 1) for straight paths: on flat latents of mean zero and unit
    variance the share is the best that is linear in x_t, and F has inputs and targets of unit variance at all times.
    For latents that are N(0, I), F = 0 is exact. On balls it is the same formula, and F learns the rest.

    Args:
        prediction: what the network is asked for: "velocity", w itself, or "residual", F.
        time: law of the training times: "uniform", or "logit_normal", which spends more of the training in the middle
            (Esser et al. 2024).
        pairing: which noise belongs to which latent of a batch: "independent", or "optimal_transport", which makes the
            sum of the squared distances smallest, for straighter paths (Tong et al. 2024, minibatch optimal transport).
            A model that is told labels has it within each class. Across classes it would give every class the noise
            that lies near it, while sampling starts any class from all of the prior. "posterior" takes the noise that
            the latent was drawn with: where the encoder says N(m, s²), the path is that of N(tm, (1 − t + ts)²), which
            moves what the image is and leaves the rest where it was. The noise knows nothing of image or label, so the
            ends have the laws that they have with independent noise, and paths are short: the network is not asked for
            what no image explains. For diagonal normal posteriors on flat space it is the optimal transport of each.
            Latents that are not drawn, such as those that will be quantised, have independent noise.

    Attributes:
        correlation: ρ, measured by `fit_pairing` and kept with the weights for the pairing "posterior", else 0.
    """

    correlation: Tensor

    prior_scale = 1.0  # latents have unit mean square, so the prior fits them at scale 1

    def __init__(
        self,
        *,
        prediction: Literal["velocity", "residual"] = "velocity",
        time: Literal["uniform", "logit_normal"] = "logit_normal",
        pairing: Literal["independent", "optimal_transport", "posterior"] = "independent",
    ) -> None:
        super().__init__()
        assert prediction in ("velocity", "residual"), prediction
        assert time in ("uniform", "logit_normal"), time
        assert pairing in ("independent", "optimal_transport", "posterior"), pairing
        self.prediction = prediction
        self.time = time
        self.pairing = pairing
        self.starts_from_posterior_noise = pairing == "posterior"
        # of another pairing it is not measured, and is no part of its weights
        self.register_buffer("correlation", torch.zeros(()), persistent=self.starts_from_posterior_noise)

    def fit_pairing(self, noise: Tensor, v: Tensor) -> None:
        if self.starts_from_posterior_noise:
            self.correlation.copy_((noise * v).mean().clamp(0, 0.99))

    def frame_velocity(self, predict: Predict) -> Predict:
        """w, the velocity in the orthonormal frame at x_t, from what the network predicts."""
        if self.prediction == "velocity":
            return predict

        def velocity(v: Tensor, t: Tensor) -> Tensor:
            ahead = t.view(-1, *[1] * (v.ndim - 1))
            rho = self.correlation
            variance = ahead.square() + (1 - ahead).square() + 2 * rho * ahead * (1 - ahead)
            inner = predict(v * variance.rsqrt(), t)
            return (1 - rho) * (2 * ahead - 1) / variance * v + inner * ((1 - rho.square()).sqrt() * variance.rsqrt())

        return velocity

    def loss(
        self,
        manifold: Manifold,
        predict: Predict,
        v: Tensor,
        generator: Generator,
        labels: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        if noise is None:
            x0 = manifold.random(v.shape, self.prior_scale, generator, dim=1)
        else:
            x0 = manifold.from_tangent(self.prior_scale * noise, dim=1)
        if self.time == "uniform":
            t = torch.rand(len(v), generator=generator, device=v.device)
        else:
            t = torch.sigmoid(torch.randn(len(v), generator=generator, device=v.device))
        x1 = manifold.from_tangent(v, dim=1)
        if self.pairing == "optimal_transport":
            # the noise moves, not the latents: they keep their labels
            x0 = x0[optimal_pairing(manifold, x1, x0) if labels is None else class_pairing(manifold, x1, x0, labels)]
        x_t, u_t = manifold.geodesic(x0, x1, t.view(-1, *[1] * (v.ndim - 1)), dim=1)
        target = manifold.to_frame(x_t, u_t, dim=1)
        # one division for all coordinates: a product manifold weighs its factors by their dimension
        return (self.frame_velocity(predict)(manifold.to_tangent(x_t, dim=1), t) - target).square().mean()

    def velocity(self, manifold: Manifold, predict: Predict, v: Tensor, t: float) -> Tensor:
        origin, x = torch.zeros_like(v), manifold.from_tangent(v, dim=1)
        u = manifold.from_frame(x, self.frame_velocity(predict)(v, v.new_full((len(v),), t)), dim=1)
        return manifold.to_frame(origin, manifold.normal_velocity(origin, x, u, dim=1), dim=1)


@torch.no_grad()
def optimal_pairing(manifold: Manifold, x: Tensor, y: Tensor) -> Tensor:
    """Indices (B,) that pair x with y[indices] at the least Σ d², with d² added up over positions.

    x and y are (B, C, *positions). The exact optimum (Crouse 2016), on the CPU. One core takes 12 ms for 128 flat maps
    of 8 × 8, 70 ms on balls.
    """
    positions = (points.reshape(*points.shape[:2], -1).movedim(2, 0) for points in (x, y))
    cost = sum(manifold.pairwise_sqdist(a, b).double() for a, b in zip(*positions, strict=True))
    assert isinstance(cost, Tensor)
    _, indices = linear_sum_assignment(cost.cpu().numpy())
    return torch.as_tensor(indices, device=x.device)


def class_pairing(manifold: Manifold, x: Tensor, y: Tensor, labels: Tensor) -> Tensor:
    """`optimal_pairing` within each class: indices (B,), where x[i] and y[i] start out with label i of labels (B,).

    The y of one class change places among themselves. So where they were drawn alike for all classes, a y has the same
    law given its class, and given that its label was dropped, which happens without a look at the pairs.
    """
    indices = torch.arange(len(labels), device=labels.device)
    for label in labels.unique():
        own = (labels == label).nonzero().flatten()
        indices[own] = own[optimal_pairing(manifold, x[own], y[own])]
    return indices


class FlowSampler(Sampler):
    """Integrates dx/dt = w(x, t) with the geodesic steps of `solvers`.

    Args:
        method: "euler" (order 1), "midpoint" or "heun" (order 2), "rk4" (order 4, in normal coordinates), all with
            equal steps; "adaptive" (order 3) chooses its own.
        steps: number of equal steps, ≥ 1; 1/steps is the first step that "adaptive" tries.
        tolerance: of "adaptive", error per step and coordinate of latents that have unit mean square.
    """

    def __init__(
        self,
        *,
        method: Literal["euler", "midpoint", "heun", "rk4", "adaptive"] = "midpoint",
        steps: int,
        tolerance: float = 0.01,
    ) -> None:
        assert method in (*FIXED_STEP, "adaptive"), method
        self.method = method
        self.steps = steps
        self.tolerance = tolerance
        self.evaluations = 0 if method == "adaptive" else steps * len(FIXED_STEP[method].nodes)

    def sample(
        self, process: Process, manifold: Manifold, predict: Predict, shape: tuple[int, ...], generator: Generator
    ) -> Tensor:
        assert isinstance(process, FlowMatching), "the check refuses others"
        frame_velocity = process.frame_velocity(predict)

        def velocity(x: Tensor, t: float) -> Tensor:
            times = torch.full((shape[0],), t, device=x.device)
            return manifold.from_frame(x, frame_velocity(manifold.to_tangent(x, dim=1), times), dim=1)

        x = manifold.random(shape, FlowMatching.prior_scale, generator, dim=1)
        if self.method == "adaptive":
            x, self.evaluations = integrate_adaptively(manifold, velocity, x, 1 / self.steps, self.tolerance)
        else:
            x, _ = integrate(FIXED_STEP[self.method], manifold, velocity, x, self.steps)
        return manifold.to_tangent(x, dim=1)
