"""Weighted means of points on the ball, in normal coordinates.

Legend: v is (*B, N, n), N points of one ball; weights are (*B, M, N) ≥ 0, M means of the same points.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hldm.geometry.analytic import sinhc
from hldm.geometry.normal import add_normal, from_spacelike, spacelike
from hldm.geometry.ops import flat, full_precision, promote
from hldm.geometry.shapes import Scalar


def midpoint(v: Float[Tensor, "*#B N n"], weights: Float[Tensor, "*#B M N"], c: Scalar) -> Float[Tensor, "*B M n"]:
    """Gyro-midpoint, which is the Einstein midpoint and the normalised centroid on the hyperboloid.

        m = ½ ⊗ Σ w_i λ_i z_i / Σ w_i (λ_i − 1)                                              Ungar (2008), chapter 6

    computed on the hyperboloid, where it is Y/|Y| with Y = Σ w_i Y_i. The Lorentz norm |Y| is never smaller than Σ w_i;
    where rounding makes it smaller, Σ w_i takes its place. In float32 the radius errs by up to 6e-3/√c at √c|v| = 6.

    Args:
        v: (*B, N, n) normal coordinates.
        weights: (*B, M, N), ≥ 0, of any positive sum.
        c: ≥ 0. As c → 0 it is the weighted mean.

    Returns:
        (*B, M, n) normal coordinates.
    """
    v, weights = promote(v), promote(weights)
    with full_precision(v):
        total = weights.sum(-1, keepdim=True)
        if flat(c):
            return weights @ v / total
        space, time = spacelike(v, c)
        summed = weights @ torch.cat([space, time], -1)
        space, time = summed[..., :-1] / total, summed[..., -1:] / total
        norm = (time.square() - c * space.square().sum(-1, keepdim=True)).clamp(min=1).sqrt()
        return from_spacelike(space / norm, c)


def frechet_mean(
    v: Float[Tensor, "*#B N n"], weights: Float[Tensor, "*#B N"], c: Scalar, steps: int = 32
) -> Float[Tensor, "*B n"]:
    """The point with the least weighted sum of squared distances (Karcher mean); unique on the ball.

    Because arcosh² is concave, Σ w_i d_i² is bounded from above at the current mean by a weighted sum of cosh(√c d_i),
    which the gyro-midpoint with weights w_i √c d_i/sinh(√c d_i) minimises: every step descends, without a step size
    (the majorisation of Lou et al. (2020), Algorithm 1, on the hyperboloid). One Newton step on the gradient
    Σ w_i log_m(v_i) ends the iteration. Autograd sees this step alone, and its derivative is the one that the implicit
    function theorem gives, so gradients to v, weights and c are exact.

    Args:
        v: (*B, N, n) normal coordinates.
        weights: (*B, N), ≥ 0, of any positive sum.
        c: ≥ 0. As c → 0 it is the weighted mean.
        steps: of the descent; 32 bring 10 points at √c·r = 4 to 1e-12.

    Returns:
        (*B, n) normal coordinates.
    """
    v, weights = promote(v), promote(weights)
    weights = weights / weights.sum(-1, keepdim=True)
    if flat(c):
        return midpoint(v, weights.unsqueeze(-2), c).squeeze(-2)
    with torch.no_grad():
        mean = midpoint(v, weights.unsqueeze(-2), c)
        for _ in range(steps):
            distance2 = add_normal(-mean, v, c).square().sum(-1)
            mean = midpoint(v, (weights / sinhc(c * distance2)).unsqueeze(-2), c)
        hessian = _hessian(add_normal(-mean, v, c), weights, c)
    gradient = (weights.unsqueeze(-1) * add_normal(-mean, v, c)).sum(-2)
    step = torch.linalg.solve(hessian, gradient)
    return add_normal(mean.squeeze(-2), step, c)


def _hessian(w: Float[Tensor, "*#B N n"], weights: Float[Tensor, "*#B N"], c: Scalar) -> Float[Tensor, "*B n n"]:
    """(*B, n, n) Hessian of Σ w_i d_i²/2 in the frame: 1 along log_m(v_i), √c d_i coth(√c d_i) across."""
    s = c * w.square().sum(-1)
    # x coth x − 1 over x², so that the direction needs no normalisation
    x = s.clamp(min=1e-8).sqrt()
    across = torch.where(s > 1e-8, x / torch.tanh(x), 1.0)
    along = torch.where(s > 1e-8, (1 - across) / x.square(), 0.0) * c
    eye = torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)
    outer = (weights * along).unsqueeze(-1).mul(w).transpose(-1, -2) @ w
    return outer + (weights * across).sum(-1)[..., None, None] * eye
